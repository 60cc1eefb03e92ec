/** The tracker: who is named to whom, and that nobody makes it grow. */
import fc from 'fast-check';
import t from 'tap';
import { type InfoHash, parseInfoHash } from '../../nar/hash.ts';
import { IpAddress } from '../../swarm/address/ip-address.ts';
import { type PeerAddress, parseCompactPeers, printPeer } from '../../swarm/address/peer-address.ts';
import { type BencodeDictionary, parseBencode } from '../../swarm/bencode.ts';
import { Tracker } from '../../swarm/tracker/tracker.ts';
import { announceOverHttp, scrapeOverHttp } from '../../swarm/tracker/tracker-http.ts';
import type { TrackerLimits } from '../../swarm/tracker/tracker-limits.ts';

const known = parseInfoHash('ab'.repeat(20));
const seeder = { host: '192.0.2.1', port: 1 };

interface Announced {
  infoHash?: InfoHash;
  from?: string;
  port?: number;
  id?: string;
  rest?: string;
}

/** A tracker with a clock that is moved, and the seeder as the only permanent peer. */
class Lab {
  nowMs = 1_000_000_000;
  permanent: PeerAddress[] = [seeder];
  readonly tracker: Tracker;

  constructor(limits: Partial<TrackerLimits> = {}) {
    this.tracker = new Tracker({
      known: (infoHash) => (infoHash.startsWith('00') ? undefined : 'seeded'),
      clock: () => this.nowMs,
      limits,
    });
  }

  announce({
    infoHash = known,
    from = '198.51.100.1',
    port = 6881,
    id,
    rest = '',
  }: Announced): BencodeDictionary {
    const escaped = infoHash.replace(/../g, '%$&');
    const peerId = (id ?? `${from} ${port}`).slice(-20).padEnd(20, '-').replaceAll(' ', '_');
    return this.raw(`info_hash=${escaped}&peer_id=${peerId}&port=${port}${rest}`, from);
  }

  raw(query: string, remoteAddress = '198.51.100.1'): BencodeDictionary {
    return dictionary(
      announceOverHttp(this.tracker, { query, remoteAddress, permanentPeers: () => this.permanent }),
    );
  }

  scrape(query: string, remoteAddress = '198.51.100.1'): BencodeDictionary {
    return dictionary(
      scrapeOverHttp(this.tracker, { query, remoteAddress, permanentPeers: () => this.permanent }),
    );
  }
}

function dictionary(bytes: Buffer): BencodeDictionary {
  const value = parseBencode(bytes);
  if (!(value instanceof Map)) throw new Error('no dictionary');
  return value;
}

/** Those that an answer names. */
function named(answer: BencodeDictionary): string[] {
  const of = (key: string, version: 4 | 6): PeerAddress[] => {
    const bytes = answer.get(key);
    if (!Buffer.isBuffer(bytes)) throw new Error(`no ${key}`);
    return parseCompactPeers(bytes, version);
  };
  return [...of('peers', 4), ...of('peers6', 6)].map(printPeer);
}

/** A torrent for each number. */
function torrent(number: number): InfoHash {
  return parseInfoHash(`ff${number.toString(16).padStart(38, '0')}`);
}

t.test(
  'permanent peers come first, then those that announced; the requester itself is not named',
  async (t) => {
    const lab = new Lab();
    t.same(named(lab.announce({ from: '198.51.100.1' })), ['192.0.2.1:1']);
    t.same(named(lab.announce({ from: '198.51.100.2' })), ['192.0.2.1:1', '198.51.100.1:6881']);
    t.same(named(lab.announce({ from: '198.51.100.1', rest: '&numwant=1' })), ['192.0.2.1:1']);
    t.match(Object.fromEntries(lab.announce({})), { interval: 1_800, complete: 1, incomplete: 2 });
  },
);

t.test('a seed is not named other seeds, but the permanent peers are in every answer', async (t) => {
  const lab = new Lab();
  lab.announce({ from: '198.51.100.1', rest: '&left=0' });
  lab.announce({ from: '198.51.100.2', rest: '&left=5' });
  t.same(named(lab.announce({ from: '198.51.100.3', rest: '&left=0' })), [
    '192.0.2.1:1',
    '198.51.100.2:6881',
  ]);
  t.same(named(lab.announce({ from: '198.51.100.4' })).length, 4);
});

t.test(
  'a program that says at its start that nothing is left is named seeds, since it may not know yet',
  async (t) => {
    const lab = new Lab();
    lab.announce({ from: '198.51.100.1', rest: '&left=0' });
    const started = lab.announce({ from: '198.51.100.3', rest: '&left=0&event=started' });
    t.same(named(started), ['192.0.2.1:1', '198.51.100.1:6881']);
  },
);

t.test('numwant: -1 is the usual number, 0 is nobody', async (t) => {
  const lab = new Lab();
  for (let host = 1; host <= 60; host++) lab.announce({ from: `198.51.100.${host}` });
  t.equal(named(lab.announce({ from: '203.0.113.1', rest: '&numwant=-1' })).length, 30);
  t.equal(named(lab.announce({ from: '203.0.113.1', rest: '&numwant=0' })).length, 0);
  t.equal(named(lab.announce({ from: '203.0.113.1', rest: '&numwant=200' })).length, 50);
});

t.test('over some announces every peer is named to somebody', async (t) => {
  const lab = new Lab();
  const all = Array.from({ length: 150 }, (_, host) => `198.51.100.${host + 1}:6881`);
  for (const peer of all) lab.announce({ from: peer.split(':')[0] ?? '' });
  const seen = new Set<string>();
  for (let i = 0; i < 30; i++)
    for (const peer of named(lab.announce({ from: '203.0.113.1' }))) seen.add(peer);
  t.same(
    all.filter((peer) => !seen.has(peer)),
    [],
  );
});

t.test(
  'who stops is gone at once and is told of nobody; who takes no connections is never named',
  async (t) => {
    const lab = new Lab();
    lab.announce({ from: '198.51.100.1' });
    t.same(named(lab.announce({ from: '198.51.100.1', rest: '&event=stopped' })), []);
    lab.announce({ from: '198.51.100.2', port: 0 });
    t.same(named(lab.announce({ from: '198.51.100.3' })), ['192.0.2.1:1']);
    lab.announce({ from: '198.51.100.3', rest: '&event=stopped' });
    t.match(lab.tracker.status(), { torrents: 0, peers: 0 });
  },
);

t.test('a peer that announces again is one peer, at its new port', async (t) => {
  const lab = new Lab();
  lab.announce({ port: 1, id: 'the same' });
  lab.announce({ port: 2, id: 'the same' });
  t.same(lab.tracker.peersOf(known, 10), [{ host: '198.51.100.1', port: 2 }]);
  t.equal(lab.tracker.status().peers, 1);
});

t.test(
  'only the address that a request comes from counts, an IPv4 address in an IPv6 one as IPv4',
  async (t) => {
    const lab = new Lab();
    lab.announce({ from: '::ffff:198.51.100.1', rest: '&ip=203.0.113.9&ipv4=203.0.113.9' });
    lab.announce({ from: '2001:db8::7', port: 7 });
    const answer = lab.announce({ from: '198.51.100.3' });
    t.same(named(answer), ['192.0.2.1:1', '198.51.100.1:6881', '[2001:db8::7]:7']);
    lab.announce({ from: '' });
    t.equal(lab.tracker.status().peers, 3, 'a connection that is gone has no address');
  },
);

t.test('who missed two announces is named no more, counted no more, and soon takes no memory', async (t) => {
  const lab = new Lab();
  lab.announce({ from: '198.51.100.1' });
  lab.announce({ from: '198.51.100.1', infoHash: torrent(1) });
  lab.nowMs += 3_600_000;
  t.equal(lab.tracker.peersOf(known, 10).length, 1, 'not before');
  lab.nowMs += 1_000;
  t.same(lab.tracker.peersOf(known, 10), []);
  t.match(Object.fromEntries(lab.announce({ from: '198.51.100.2' })), { incomplete: 1 });
  t.match(lab.tracker.status(), { torrents: 1, peers: 1 });
});

t.test('unknown torrents and hostile queries get a failure reason and leave nothing behind', async (t) => {
  const lab = new Lab();
  const unknown = lab.announce({ infoHash: parseInfoHash('00'.repeat(20)) });
  t.match(unknown.get('failure reason')?.toString(), /does not know/);
  t.equal(unknown.size, 1);
  t.ok(lab.raw('nonsense').has('failure reason'));
  t.match(lab.tracker.status(), { torrents: 0, peers: 0, refused: 2, announces: 1 });
  const part = fc.oneof(
    fc.string(),
    fc.constantFrom('info_hash=', '%00', '&', 'peer_id=', 'port=1', 'a'.repeat(20)),
  );
  fc.assert(
    fc.property(fc.array(part), fc.string(), (parts, from) => {
      lab.raw(parts.join(''), from);
      lab.scrape(parts.join(''));
      return lab.tracker.status().peers <= 1;
    }),
  );
});

t.test('a scrape counts, of those torrents that are known; without an infohash it is refused', async (t) => {
  const lab = new Lab();
  lab.announce({ from: '198.51.100.1', rest: '&left=0' });
  lab.announce({ from: '198.51.100.2', rest: '&left=9' });
  const files = lab.scrape(`info_hash=${'%ab'.repeat(20)}&info_hash=${'%00'.repeat(20)}`).get('files');
  if (!(files instanceof Map)) return t.fail('files');
  t.same([...files.keys()], [Buffer.from(known, 'hex').toString('latin1')]);
  t.match(Object.fromEntries([...files.values()][0] as Map<string, number>), { complete: 2, incomplete: 1 });
  t.ok(lab.scrape('').has('failure reason'));
});

t.test(
  'seeds are counted without the permanent peers, and no longer once they stop or stay away',
  async (t) => {
    const lab = new Lab();
    t.equal(lab.tracker.seedsOf(known), 0);
    lab.announce({ from: '198.51.100.1', rest: '&left=0' });
    lab.announce({ from: '198.51.100.2', rest: '&left=0' });
    lab.announce({ from: '198.51.100.3', rest: '&left=1' });
    t.equal(lab.tracker.seedsOf(known), 2);
    lab.announce({ from: '198.51.100.1', rest: '&left=0&event=stopped' });
    t.equal(lab.tracker.seedsOf(known), 1);
    lab.nowMs += 3_601_000;
    t.equal(lab.tracker.seedsOf(known), 0);
  },
);

t.test('too many torrents: the one that was announced longest ago goes', async (t) => {
  const lab = new Lab({ torrents: 2 });
  for (const number of [1, 2, 1, 3]) lab.announce({ infoHash: torrent(number) });
  t.same(
    [1, 2, 3].map((number) => lab.tracker.peersOf(torrent(number), 9).length),
    [1, 0, 1],
  );
  t.match(lab.tracker.status(), { torrents: 2, peers: 2 });
});

t.test('too many peers of a torrent: the one that announced longest ago goes', async (t) => {
  const lab = new Lab({ peersPerTorrent: 2 });
  for (const host of [1, 2, 1, 3]) lab.announce({ from: `198.51.100.${host}` });
  t.same(
    lab.tracker.peersOf(known, 9).map(({ host }) => host),
    ['198.51.100.3', '198.51.100.1'],
  );
});

t.test('one address cannot crowd others out of a torrent', async (t) => {
  const lab = new Lab({ peersPerTorrentAndAddress: 2 });
  lab.announce({ from: '198.51.100.1' });
  for (let port = 1; port <= 300; port++) lab.announce({ from: '203.0.113.1', port });
  for (let host = 1; host <= 300; host++) lab.announce({ from: `2001:db8::${host.toString(16)}` });
  t.equal(lab.tracker.status().peers, 5);
  t.ok(lab.tracker.peersOf(known, 9).some(({ host }) => host === '198.51.100.1'));
});

t.test(
  'one address, or a /64 of them, can have so many peers in all; they are free again when it stops',
  async (t) => {
    const lab = new Lab({ peersPerAddress: 3 });
    for (let number = 0; number < 5; number++)
      lab.announce({ infoHash: torrent(number), from: `2001:db8::${number}` });
    t.equal(lab.tracker.status().peers, 3);
    lab.announce({ infoHash: torrent(0), from: '2001:db8::0', rest: '&event=stopped' });
    lab.announce({ infoHash: torrent(4), from: '2001:db8::4' });
    t.equal(lab.tracker.peersOf(torrent(4), 9).length, 1);
    lab.announce({ infoHash: torrent(3), from: '2001:db8:0:1::3' });
    t.equal(lab.tracker.peersOf(torrent(3), 9).length, 1, 'others are not affected');
  },
);

t.test('too many peers in all: the torrents that were announced longest ago go', async (t) => {
  const lab = new Lab({ peers: 3 });
  lab.announce({ infoHash: torrent(1), from: '198.51.100.1' });
  lab.announce({ infoHash: torrent(1), from: '198.51.100.2' });
  lab.announce({ infoHash: torrent(2), from: '198.51.100.3' });
  lab.announce({ infoHash: torrent(3), from: '198.51.100.4' });
  t.match(lab.tracker.status(), { torrents: 2, peers: 2 });
  t.equal(lab.tracker.peersOf(torrent(3), 9).length, 1);
});

t.test('whatever is announced in whatever order, the counts stay true and in bounds', async () => {
  const limits = {
    torrents: 4,
    peersPerTorrent: 3,
    peersPerTorrentAndAddress: 2,
    peers: 9,
    peersPerAddress: 5,
  };
  const step = fc.record({
    torrent: fc.nat(6),
    host: fc.nat(4),
    port: fc.nat(3),
    event: fc.constantFrom('', '&event=stopped', '&event=completed&left=0'),
    passesMs: fc.constantFrom(0, 0, 0, 1_000_000, 4_000_000),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
      const lab = new Lab(limits);
      for (const { torrent: number, host, port, event, passesMs } of steps) {
        lab.nowMs += passesMs;
        lab.announce({ infoHash: torrent(number), from: `198.51.100.${host}`, port, rest: event });
        const { torrents, peers } = lab.tracker.status();
        if (torrents > limits.torrents || peers > limits.peers || peers < torrents) return false;
        if (lab.tracker.peersOf(torrent(number), 99).length > limits.peersPerTorrent) return false;
      }
      // After everybody has stopped there is nobody.
      for (let number = 0; number <= 6; number++)
        for (let host = 0; host <= 4; host++)
          for (let port = 0; port <= 3; port++)
            lab.announce({
              infoHash: torrent(number),
              from: `198.51.100.${host}`,
              port,
              rest: '&event=stopped',
            });
      return lab.tracker.status().peers === 0 && lab.tracker.status().torrents === 0;
    }),
  );
});

t.test(
  'an address, or a /64 of them, that asks too often is told when to ask again; others are not affected',
  async (t) => {
    const lab = new Lab({ requestsPerAddressAndMinute: 3 });
    const hashes = (count: number): string => `info_hash=${'%ab'.repeat(20)}&`.repeat(count).slice(0, -1);
    lab.announce({ from: '2001:db8::1' });
    lab.scrape(hashes(2), '2001:db8::2');
    const over = lab.announce({ from: '2001:db8::3' });
    t.match(over.get('failure reason')?.toString(), /too many requests/);
    t.equal(over.get('retry in'), 1);
    t.equal(over.get('interval'), 60);
    t.ok(lab.scrape(hashes(1), '2001:db8::4').has('failure reason'));
    t.ok(lab.announce({ from: '2001:db8:0:1::3' }).has('peers'));
    t.ok(lab.announce({ from: '198.51.100.1' }).has('peers'));
    t.match(lab.tracker.status(), { limited: 2, refused: 2, peers: 3 });
    lab.nowMs += 60_000;
    t.ok(lab.announce({ from: '2001:db8::3' }).has('peers'), 'in the next minute it is heard');
  },
);

t.test('unknown torrents count against the limit of an address as well', async (t) => {
  const lab = new Lab({ requestsPerAddressAndMinute: 2 });
  for (let asked = 0; asked < 3; asked++) lab.announce({ infoHash: parseInfoHash('00'.repeat(20)) });
  t.match(lab.tracker.status(), { limited: 1, refused: 3 });
});

t.test('a torrent that has left the catalog is tracked no more within a minute', async (t) => {
  let asked = 0;
  let gone = false;
  let nowMs = 0;
  const tracker = new Tracker({
    clock: () => nowMs,
    known() {
      asked++;
      return gone ? undefined : 'tracked';
    },
  });
  const announce = (port: number): boolean => {
    const query = `info_hash=${'%ab'.repeat(20)}&peer_id=${`${port}`.padStart(20, '-')}&port=${port}`;
    const permanentPeers = (): PeerAddress[] => [seeder];
    return dictionary(
      announceOverHttp(tracker, { query, remoteAddress: '198.51.100.1', permanentPeers }),
    ).has('peers');
  };
  for (let port = 1; port <= 5; port++) t.ok(announce(port));
  t.equal(asked, 1, 'the catalog is asked once');
  gone = true;
  t.ok(announce(6));
  nowMs += 60_000;
  t.notOk(announce(7));
  t.match(tracker.status(), { torrents: 0, peers: 0 });
});

t.test('a torrent that the seeder has not got is answered without it', async (t) => {
  const tracker = new Tracker({ known: () => 'tracked', clock: () => 0 });
  const query = `info_hash=${'%ab'.repeat(20)}&peer_id=${'x'.repeat(20)}&port=1`;
  const request = { query, remoteAddress: '198.51.100.1', permanentPeers: () => [seeder] };
  t.same(named(dictionary(announceOverHttp(tracker, request))), []);
});

t.test('hundreds of thousands of peers take some tens of bytes each', async (t) => {
  const tracker = new Tracker({
    known: () => 'tracked',
    clock: () => 0,
    limits: { requestsPerAddressAndMinute: 1e9 },
  });
  const from = new IpAddress();
  const peerId = Buffer.alloc(20);
  const before = process.memoryUsage();
  for (let number = 0; number < 200_000; number++) {
    from.read(`10.${number >> 16}.${(number >> 8) & 255}.${number & 255}`);
    peerId.writeUInt32BE(number);
    const query = {
      infoHash: torrent(number % 80_000),
      peerId,
      port: 6881,
      left: 0,
      event: undefined,
      numWant: 0,
    };
    tracker.announce(query, { from, permanentPeers: () => [] });
  }
  const { torrents, peers, tableBytes } = tracker.status();
  t.match({ torrents, peers }, { torrents: 80_000, peers: 200_000 });
  const grownBytes = process.memoryUsage().arrayBuffers - before.arrayBuffers;
  t.ok(tableBytes / peers < 100, `${tableBytes / peers} bytes a peer`);
  t.ok(grownBytes < 2 * tableBytes, `${grownBytes} bytes outside the heap`);
});
