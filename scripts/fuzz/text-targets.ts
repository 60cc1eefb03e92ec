/** Headers, JSON and texts of the command line. */

import { printTorrentInfo, signTorrentInfo } from '../../catalog/torrentinfo.ts';
import {
  parseCount,
  parseDuration,
  parseHost,
  parseHostPort,
  parseRate,
  parseSize,
  parseUrl,
  printHostPort,
} from '../../cli/units.ts';
import { narFileName } from '../../nar/compression.ts';
import { infoHashFromDigest, sha256FromDigest } from '../../nar/hash.ts';
import { secretKeyFromSeed } from '../../nar/signature.ts';
import { parseResolveLine } from '../../parts/resolved.ts';
import { sourcePathOf } from '../../seeder/scan-path.ts';
import { fromChild, toChild } from '../../swarm/dht/dht-messages.ts';
import { infoDictionary, makeTorrent } from '../../swarm/torrent/torrent.ts';
import { parseRange } from '../../web/range.ts';
import { resolveMaxFileHashes, resolveRequest } from '../../web/resolve-route.ts';
import { holds, type Target, unlessRefused, type Verdict } from './target.ts';

const range: Target = {
  words: ['bytes=', '-', ',', ' ', '\t', '0', '9007199254740993', '99999999999999999999', 'items='],
  make: (random) =>
    Buffer.from(
      random.oneIn(8)
        ? `bytes=0-1,${'2-3,'.repeat(random.below(20))}5-6`
        : `bytes=${random.oneIn(4) ? '' : random.number()}-${random.oneIn(3) ? '' : random.number()}`,
    ),
  run: (input, random) => {
    const sizeBytes = random.number();
    const part = parseRange(input.toString('latin1'), sizeBytes);
    if (part === undefined || part === 'unsatisfiable') return 'refused';
    holds(Number.isSafeInteger(part.start) && part.start >= 0 && part.lengthBytes >= 1, 'a range has a byte');
    holds(part.start + part.lengthBytes <= sizeBytes, 'a range lies within the file');
    return 'accepted';
  },
};

const jsonWords = [
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  '"',
  '\\u0000',
  'null',
  'true',
  '1e999',
  '-0',
  '"__proto__":',
  '[[[[[[[[',
];

const resolveQuestion: Target = {
  words: [...jsonWords, '"fileHashes"', 'sha256:'],
  make: (random) => {
    const hashes = Array.from(
      { length: random.below(4) },
      () => `sha256:${sha256FromDigest(random.bytes(32))}`,
    );
    return Buffer.from(JSON.stringify({ fileHashes: hashes, ...(random.oneIn(4) ? { more: 1 } : {}) }));
  },
  run: (input) => {
    const parsed = resolveRequest.safeParse(jsonOf(input));
    if (!parsed.success) return 'refused';
    holds(parsed.data.fileHashes.length <= resolveMaxFileHashes, 'questions are bounded');
    return 'accepted';
  },
};

const secret = secretKeyFromSeed('fuzz-1', Buffer.alloc(32, 1));
/** Some answers that are right: each takes a signature, which takes longer than all the rest. */
const answers = Array.from({ length: 8 }, (_, index) => {
  const fileHash = sha256FromDigest(Buffer.alloc(32, index));
  const name = narFileName(fileHash, 'xz');
  const torrent = makeTorrent({ name, length: 1 + index, pieces: Buffer.alloc(20, index) });
  const values = {
    fileHash,
    fileSize: 1 + index,
    compression: 'xz',
    narSize: 9,
    infoHash: torrent.infoHash,
  } as const;
  const narInfoHash = infoHashFromDigest(Buffer.alloc(20, 1));
  const signed = signTorrentInfo(
    { ...values, narHash: sha256FromDigest(Buffer.alloc(32, 9)), narInfoHash },
    secret,
  );
  return {
    fileHash,
    torrentinfo: printTorrentInfo(signed),
    info: infoDictionary(torrent).toString('base64'),
  };
});

const resolveAnswer: Target = {
  words: [...jsonWords, '"torrentinfo"', '"info"', '"peers"', 'AAAA', '='],
  make: (random) => {
    const answer = answers[random.below(answers.length)];
    const peers = Array.from(
      { length: random.below(4) },
      () => `10.0.0.${random.below(300)}:${random.below(70_000)}`,
    );
    return Buffer.from(JSON.stringify({ ...answer, peers }));
  },
  run: (input) => {
    const codes = ['torrentinfo-corrupt', 'torrentinfo-untrusted', 'torrent-invalid'] as const;
    const read = unlessRefused(codes, () => parseResolveLine(input.toString('utf8'), [secret.publicKey]));
    if (read === undefined) return 'refused';
    holds(read.torrent.infoHash === read.torrentInfo.infoHash, 'a torrent is the one that was signed');
    holds(read.peers.length <= 50, 'peers are bounded');
    return 'accepted';
  },
};

const dhtMessages: Target = {
  words: [...jsonWords, '"type"', '"announce"', '"status"', '"infoHash"', '"drops"', '"limits"'],
  make: (random) => {
    const infoHash = random.bytes(20).toString('hex');
    const drops = {
      oversize: 1,
      'not-bencode': 0,
      'not-krpc': 0,
      unsupported: 0,
      unasked: 0,
      'address-limit': 0,
      'total-limit': 0,
    };
    return Buffer.from(
      JSON.stringify(
        random.pick([
          { type: 'announce', infoHash },
          { type: 'announced', infoHash, nodes: random.below(9) },
          { type: 'listening', host: '0.0.0.0', port: random.below(70_000) },
          { type: 'status', nodes: random.below(9), received: random.number(), drops },
          { type: 'failed', message: 'x'.repeat(random.below(1_100)) },
        ]),
      ),
    );
  },
  run: (input) => {
    const json = jsonOf(input);
    return fromChild.safeParse(json).success || toChild.safeParse(json).success ? 'accepted' : 'refused';
  },
};

const units: Target = {
  words: [
    'KiB',
    'MiB',
    'GiB',
    '/s',
    'ms',
    's',
    'min',
    'h',
    'd',
    '.',
    ' ',
    '[',
    ']',
    ':',
    '::1',
    'http://',
    '1e9',
    '-',
  ],
  make: (random) => {
    const number = random.oneIn(2) ? String(random.number()) : `${random.below(100)}.${random.below(100)}`;
    return Buffer.from(
      random.pick([
        `${number}${random.pick(['KiB', 'MiB', 'GiB', 'B', ''] as const)}`,
        `${number} MiB/s`,
        `${number}${random.pick(['ms', 's', 'min', 'h', 'd'] as const)}`,
        `127.0.0.1:${random.below(70_000)}`,
        `[::${random.below(9)}]:${random.below(70_000)}`,
        `http://host.example:${random.below(70_000)}/path`,
      ]),
    );
  },
  run: (input) => {
    const text = input.toString('latin1');
    const refusal = ['config-invalid'] as const;
    const numbers = [parseSize, parseRate, parseDuration].map((parse) =>
      unlessRefused(refusal, () => parse(text)),
    );
    for (const number of numbers)
      holds(number === undefined || (Number.isFinite(number) && number >= 0), 'a quantity is a number');
    const count = unlessRefused(refusal, () => parseCount(text, 1, 100));
    const address = unlessRefused(refusal, () => parseHostPort(text));
    if (address !== undefined) {
      const again = parseHostPort(printHostPort(address));
      holds(again.host === address.host && again.port === address.port, 'it is written as it was read');
    }
    const host = unlessRefused(refusal, () => parseHost(text));
    const url = unlessRefused(refusal, () => parseUrl(text, ['http:', 'https:']));
    return verdictOf([...numbers, count, address, host, url]);
  },
};

const sourcePath: Target = {
  words: ['..', '/', '\\', '%2e', '%2F', '%252e%252e', '%00', '\0', 'file:', 'http://', '?', '#', '..;'],
  make: (random) => {
    const part = (): string =>
      random.pick(['nar', '..', 'a%2eb', '.', `${random.below(99)}.nar.xz`, '%2e%2e'] as const);
    return Buffer.from(Array.from({ length: 1 + random.below(4) }, part).join('/'));
  },
  run: (input) => {
    const url = input.toString('latin1');
    // No URL of a narinfo has these; the parser of narinfos sees to that.
    if (/[\0- \x7f]/.test(url)) return 'refused';
    const path = unlessRefused(['path-escapes'], () => sourcePathOf(url));
    if (path === undefined) return 'refused';
    const resolved = new URL(`http://h/top/${path.replaceAll(/[?#]/g, '_')}`).pathname;
    holds(
      resolved.startsWith('/top/'),
      'a name does not lead out of the directory, also when it is resolved',
    );
    return 'accepted';
  },
};

function jsonOf(input: Buffer): unknown {
  try {
    return JSON.parse(input.toString('utf8'));
  } catch {
    return undefined;
  }
}

function verdictOf(values: readonly unknown[]): Verdict {
  return values.some((value) => value !== undefined) ? 'accepted' : 'refused';
}

export const textTargets = {
  range,
  'resolve-question': resolveQuestion,
  'resolve-answer': resolveAnswer,
  'dht-messages': dhtMessages,
  units,
  'source-path': sourcePath,
} satisfies Record<string, Target>;
