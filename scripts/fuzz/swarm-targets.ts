/** Trackers, DHT and torrents: what strangers and other people's servers send. */

import { type InfoHash, parseInfoHash } from '../../nar/hash.ts';
import { addressKey } from '../../swarm/address/address-key.ts';
import { IpAddress } from '../../swarm/address/ip-address.ts';
import { compactPeer, parseCompactPeers, parsePeer, printPeer } from '../../swarm/address/peer-address.ts';
import { bencode, parseBencode } from '../../swarm/bencode.ts';
import { dhtPacketMaxBytes } from '../../swarm/dht/dht-limits.ts';
import { parseDhtPacket, printDhtPacket } from '../../swarm/dht/dht-packets.ts';
import {
  localPacketMaxBytes,
  localPacketMaxInfoHashes,
  parseLocalAnnounce,
  printLocalAnnounce,
} from '../../swarm/local/local-packets.ts';
import { infoDictionary, makeTorrent, parseInfoDictionary, pieceCount } from '../../swarm/torrent/torrent.ts';
import { parseTorrentFile, torrentFile } from '../../swarm/torrent/torrent-file.ts';
import { Tracker } from '../../swarm/tracker/tracker.ts';
import { announceMaxPeers, parseAnnounceAnswer } from '../../swarm/tracker/tracker-client.ts';
import { announceOverHttp, scrapeOverHttp } from '../../swarm/tracker/tracker-http.ts';
import {
  numWantMax,
  parseAnnounceQuery,
  parseScrapeQuery,
  scrapeMaxInfoHashes,
} from '../../swarm/tracker/tracker-query.ts';
import {
  announceAnswer,
  connectAnswer,
  errorAnswer,
  packetKind,
  parseAnnounce,
  parseScrape,
  scrapeAnswer,
} from '../../swarm/tracker/udp-packets.ts';
import { bencodeWords, nearly } from './bencode-inputs.ts';
import type { Random } from './random.ts';
import { holds, type Target, unlessRefused } from './target.ts';
import { verdict } from './wire-targets.ts';

function escaped(bytes: Buffer, random: Random): string {
  return random.oneIn(8)
    ? bytes.toString('latin1')
    : bytes.toString('hex').replaceAll(/../g, (digits) => `%${digits}`);
}

const limits = {
  torrents: 50,
  peers: 200,
  peersPerTorrent: 20,
  requestsPerAddressAndMinute: Number.MAX_SAFE_INTEGER,
};
const seeder = [{ host: '192.0.2.1', port: 6881 }];
/** One for all inputs, so that its tables are full; a new one now and then would hide what only a full one does. */
let nowMs = 0;
const tracker = new Tracker({
  known: (infoHash: InfoHash) =>
    infoHash.startsWith('f') ? undefined : infoHash.startsWith('e') ? 'tracked' : 'seeded',
  clock: () => nowMs,
  limits,
});

const trackerQuery: Target = {
  words: [
    'info_hash=',
    '&',
    '=',
    '%',
    '%00',
    '%ff',
    '&port=0',
    '&port=65536',
    '&left=0',
    '&event=stopped',
    '&numwant=-1',
    '&compact=0',
    '&ip=10.0.0.1',
  ],
  make: (random) => {
    const infoHash = escaped(Buffer.alloc(20, random.oneIn(4) ? random.bytes(1) : random.below(16)), random);
    if (random.oneIn(4)) return Buffer.from(`info_hash=${infoHash}&info_hash=${infoHash}`, 'latin1');
    const event = random.pick([
      '',
      '&event=started',
      '&event=stopped',
      '&event=completed',
      '&event=x',
    ] as const);
    return Buffer.from(
      `info_hash=${infoHash}&peer_id=${escaped(random.bytes(20), random)}&port=${random.number()}` +
        `&left=${random.number()}&numwant=${random.number()}${event}`,
      'latin1',
    );
  },
  run: (input, random) => {
    const query = input.toString('latin1');
    nowMs += random.below(10_000);
    const remoteAddress = random.pick(['', '198.51.100.7', '2001:db8::1', '::ffff:10.1.1.1', 'x'] as const);
    const request = { query, remoteAddress, permanentPeers: () => seeder };
    const asked = unlessRefused(['tracker-failed'], () => parseAnnounceQuery(query));
    if (asked !== undefined) {
      holds(asked.port >= 0 && asked.port <= 65_535 && asked.left >= 0, 'numbers lie within their bounds');
      holds(asked.numWant >= 0 && asked.numWant <= numWantMax, 'nobody is named more peers than allowed');
    }
    const scraped = unlessRefused(['tracker-failed'], () => parseScrapeQuery(query));
    if (scraped !== undefined) holds(scraped.length <= scrapeMaxInfoHashes, 'a scrape is bounded');
    const answer = parseBencode((random.oneIn(4) ? scrapeOverHttp : announceOverHttp)(tracker, request));
    const known = ['peers', 'files', 'failure reason'];
    holds(answer instanceof Map && known.some((key) => answer.has(key)), 'every request is answered');
    const { torrents, peers } = tracker.status();
    holds(torrents <= limits.torrents && peers <= limits.peers, 'the tracker keeps no more than it may');
    return verdict(asked ?? scraped);
  },
};

const trackerAnswer: Target = {
  words: [
    ...bencodeWords,
    '8:interval',
    '5:peers',
    '6:peers6',
    '14:failure reason',
    '2:ip',
    '4:port',
    '9:127.0.0.1',
  ],
  make: (random) =>
    nearly(random, {
      interval: random.number(),
      complete: 1,
      peers: random.oneIn(3)
        ? [
            {
              ip: random.pick(['10.0.0.1', '::1', 'host.invalid', '[', ''] as const),
              port: random.below(70_000),
            },
          ]
        : random.bytes(6 * random.below(5) + (random.oneIn(8) ? 1 : 0)),
      peers6: random.bytes(18 * random.below(3)),
    }),
  run: (input) => {
    const answer = unlessRefused(['tracker-failed', 'bencode-invalid'], () => parseAnnounceAnswer(input));
    if (answer === undefined) return 'refused';
    holds(answer.peers.length <= announceMaxPeers, 'no more peers are taken than allowed');
    holds(
      answer.intervalSeconds >= 60 && answer.intervalSeconds <= 86_400,
      'nobody makes us ask all the time',
    );
    for (const peer of answer.peers) holds(parsePeer(printPeer(peer)) !== undefined, 'a peer has an address');
    return 'accepted';
  },
};

const udpAddress = new IpAddress();
udpAddress.read('198.51.100.8');

/** As the UDP tracker does it, from the packet to the answer, once the connection id is right. */
const udpPacket: Target = {
  words: [
    '\0\0\0\0',
    '\0\0\0\x01',
    '\0\0\0\x02',
    '\0\0\x04\x17\x27\x10\x19\x80',
    '\xff\xff\xff\xff',
    '\x02\x09/announce',
  ],
  make: (random) => {
    const head = Buffer.concat([random.bytes(8), Buffer.from([0, 0, 0, random.below(4)]), random.bytes(4)]);
    if (random.oneIn(8)) return Buffer.from([0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0, 1, 2, 3, 4]);
    if (random.oneIn(3)) return Buffer.concat([head, random.bytes(20 * (1 + random.below(80)))]);
    return Buffer.concat([head, Buffer.alloc(20, random.below(256)), random.bytes(62 + random.below(20))]);
  },
  run: (input) => {
    const kind = packetKind(input);
    if (kind === undefined) return 'refused';
    const request = { from: udpAddress, permanentPeers: () => seeder, family: 4 } as const;
    if (kind === 'connect') {
      holds(connectAnswer(input).length <= input.length, 'a stranger gets no more than it sent');
    } else if (kind === 'announce') {
      const answer = tracker.announce(parseAnnounce(input), request);
      if ('refused' in answer) errorAnswer(input, answer.refused);
      else {
        const packet = announceAnswer(input, answer, answer.ipv4, tracker.limits.intervalSeconds);
        holds(packet.length <= 20 + 6 * numWantMax, 'an answer is bounded');
        holds(packet.subarray(4, 8).equals(input.subarray(12, 16)), 'an answer says to what');
      }
    } else {
      const infoHashes = parseScrape(input);
      const counts = tracker.scrape(infoHashes, request);
      if (!('refused' in counts))
        holds(scrapeAnswer(input, counts).length === 8 + 12 * infoHashes.length, 'all are counted');
    }
    const { torrents, peers } = tracker.status();
    holds(torrents <= limits.torrents && peers <= limits.peers, 'the tracker keeps no more than it may');
    return 'accepted';
  },
};

const dhtPacket: Target = {
  words: [
    ...bencodeWords,
    '1:q',
    '1:y',
    '1:t',
    '1:a',
    '1:r',
    '1:e',
    '2:id',
    '9:info_hash',
    '5:token',
    '6:target',
    '5:nodes',
    '6:values',
    '13:announce_peer',
    '9:find_node',
    '9:get_peers',
  ],
  make: (random) => {
    const id = random.bytes(random.oneIn(16) ? 19 : 20);
    const common = { t: random.bytes(random.below(5)), v: 'x' };
    const kind = random.below(6);
    if (kind === 0) return nearly(random, { ...common, y: 'e', e: [random.below(300), 'an error'] });
    if (kind === 1) {
      const values = [random.bytes(6), random.bytes(random.oneIn(4) ? 18 : 6)];
      const nodes = random.bytes(26 * random.below(4));
      return nearly(random, { ...common, y: 'r', r: { id, token: random.bytes(4), nodes, values } });
    }
    const q = random.pick(['ping', 'find_node', 'get_peers', 'announce_peer', 'put'] as const);
    const args = {
      id,
      target: random.bytes(20),
      info_hash: random.oneIn(8) ? random.below(9) : random.bytes(20),
      token: random.oneIn(8) ? random.below(9) : random.bytes(8),
      port: random.below(70_000),
      implied_port: random.below(3),
    };
    return nearly(random, { ...common, y: 'q', q, a: args });
  },
  run: (input, random) => {
    const localNodes = random.oneIn(2);
    const packet = parseDhtPacket(input, localNodes);
    if (typeof packet === 'string') return 'refused';
    const printed = printDhtPacket(packet);
    holds(printed.length <= dhtPacketMaxBytes, 'what is passed on is no longer than a packet');
    const again = parseDhtPacket(printed, localNodes);
    holds(typeof again !== 'string' && printDhtPacket(again).equals(printed), 'it is written as it was read');
    return 'accepted';
  },
};

const fileName = '0'.repeat(52);
const torrentTarget: Target = {
  words: [
    ...bencodeWords,
    '4:info',
    '6:length',
    '4:name',
    '12:piece length',
    '6:pieces',
    'i65536e',
    '5:files',
  ],
  make: (random) => {
    const length = 1 + random.below(300_000);
    const name = `${random.oneIn(8) ? random.text(5, 'a./') : fileName}.nar${random.pick(['', '.xz', '.zst', '.x'] as const)}`;
    const count = pieceCount({ length, pieceLength: 65_536 });
    const torrent = unlessRefused(['torrent-invalid'], () =>
      makeTorrent({ name, length, pieces: random.bytes(20 * count) }),
    );
    if (torrent === undefined) return bencode({ info: { length, name, pieces: random.bytes(20) } });
    return random.oneIn(2)
      ? infoDictionary(torrent)
      : torrentFile(torrent, { announce: 'http://a.invalid/announce', webSeeds: ['http://b.invalid/'] });
  },
  run: (input) => {
    const bare = unlessRefused(['torrent-invalid'], () => parseInfoDictionary(input));
    if (bare !== undefined) holds(infoDictionary(bare).equals(input), 'an info dictionary has one encoding');
    const file = unlessRefused(['torrent-invalid'], () => parseTorrentFile(input));
    if (file !== undefined) {
      const again = parseTorrentFile(torrentFile(file));
      holds(again.infoHash === file.infoHash, 'a torrent file says what was in it');
    }
    return verdict(bare ?? file);
  },
};

const peerAddress: Target = {
  words: ['[', ']', ':', '::', '::ffff:', '%eth0', '0', '65535', '65536', '127.0.0.1', '.'],
  make: (random) =>
    Buffer.from(
      random.pick([
        `${random.below(300)}.${random.below(256)}.0.1:${random.below(70_000)}`,
        `[2001:db8::${random.below(65_536).toString(16)}]:${random.below(70_000)}`,
        `[::ffff:10.0.0.${random.below(300)}]:1`,
        `host-${random.below(9)}.example:${random.below(70_000)}`,
      ]),
    ),
  run: (input) => {
    const text = input.toString('latin1');
    holds(addressKey(text).length <= Math.max(30, text.length), 'the key of an address is short');
    const whole = unlessRefused(['tracker-failed'], () => parseCompactPeers(input, 6));
    for (const peer of whole ?? []) holds(compactPeer(peer).length === 18, 'a compact peer has one length');
    const peer = parsePeer(text);
    if (peer === undefined) return 'refused';
    const again = parsePeer(printPeer(peer));
    holds(again?.host === peer.host && again.port === peer.port, 'it is written as it was read');
    const compact = compactPeer(peer);
    if (compact.length > 0) {
      const [read] = parseCompactPeers(compact, compact.length === 6 ? 4 : 6);
      holds(read !== undefined && compactPeer(read).equals(compact), 'a compact peer reads back');
    }
    return 'accepted';
  },
};

/** Anybody in the local network can send these. */
const localAnnounce: Target = {
  words: [
    'BT-SEARCH * HTTP/1.1\r\n',
    'Port: ',
    'Infohash: ',
    'cookie: ',
    '\r\n',
    '\r\n\r\n',
    ':',
    '-have',
    '-ask',
    '65536',
  ],
  make: (random) => {
    const digits = (): string => Array.from({ length: 40 }, () => random.below(16).toString(16)).join('');
    const infoHashes = Array.from({ length: 1 + random.below(localPacketMaxInfoHashes) }, () =>
      parseInfoHash(digits()),
    );
    const cookie = random.oneIn(3) ? undefined : `${random.below(1_000)}-ask`;
    return printLocalAnnounce('239.192.152.143:6771', { port: 1 + random.below(65_535), infoHashes, cookie });
  },
  run: (input) => {
    const found = parseLocalAnnounce(input);
    if (found === undefined) return 'refused';
    const { port, infoHashes } = found;
    holds(input.length <= localPacketMaxBytes, 'no packet is longer than one frame');
    holds(port > 0 && port < 65_536 && infoHashes.length > 0, 'it says where what is to be had');
    holds(new Set(infoHashes).size === infoHashes.length, 'each infohash once');
    holds(infoHashes.length * 50 < input.length, 'no more than there is room for');
    const again = parseLocalAnnounce(
      printLocalAnnounce('g', { ...found, infoHashes: infoHashes.slice(0, localPacketMaxInfoHashes) }),
    );
    holds(again?.port === port && again.infoHashes[0] === infoHashes[0], 'it is read as it was written');
    return 'accepted';
  },
};

export const swarmTargets = {
  'tracker-query': trackerQuery,
  'tracker-answer': trackerAnswer,
  'udp-packet': udpPacket,
  'dht-packet': dhtPacket,
  torrent: torrentTarget,
  'peer-address': peerAddress,
  'local-announce': localAnnounce,
} satisfies Record<string, Target>;
