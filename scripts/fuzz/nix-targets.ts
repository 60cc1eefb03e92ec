/** Nix's formats and our own torrentinfo, as other people's caches and catalogs serve them. */

import {
  parseTorrentInfo,
  printTorrentInfo,
  signTorrentInfo,
  torrentInfoSigsMax,
  verifyTorrentInfo,
} from '../../catalog/torrentinfo.ts';
import { parseCacheInfo, printCacheInfo } from '../../nar/cache-info.ts';
import { compressions, narFileName, parseNarFileName } from '../../nar/compression.ts';
import { storePathFollowsFromCa } from '../../nar/content-address.ts';
import { isNarswarmError } from '../../nar/errors.ts';
import {
  infoHashFromDigest,
  parseHash,
  parseInfoHash,
  parseSha256,
  printSha256,
  sha256FromDigest,
  sha256ToDigest,
} from '../../nar/hash.ts';
import { NarLister } from '../../nar/nar-listing.ts';
import { NarReader, narMaxDepth, narNameMaxBytes, narTargetMaxBytes } from '../../nar/nar-reader.ts';
import {
  narDirectoryStart,
  narEntryStart,
  narMagic,
  narNodeEnd,
  narPaddingBytes,
  narRegularStart,
  narString,
  narSymlink,
} from '../../nar/nar-writer.ts';
import {
  fingerprint,
  makeNarInfo,
  parseNarInfo,
  printNarInfo,
  withSignature,
  withUrl,
} from '../../nar/narinfo.ts';
import { nix32Encode } from '../../nar/nix32.ts';
import {
  parsePublicKey,
  parseSecretKey,
  printPublicKey,
  printSecretKey,
  secretKeyFromSeed,
  sign,
  verifyNarInfo,
  verifySignature,
} from '../../nar/signature.ts';
import {
  parseStoreHash,
  parseStorePath,
  parseStorePathName,
  storeDirOf,
  storePathName,
} from '../../nar/store-path.ts';
import type { Random } from './random.ts';
import { holds, type Target, unlessRefused, type Verdict } from './target.ts';

const secret = secretKeyFromSeed('fuzz-1', Buffer.alloc(32, 1));
const keys = [secret.publicKey];
const nix32Digits = '0123456789abcdfghijklmnpqrsvwxyz';
const nameCharacters = 'abcXYZ019+-._?=';

function storeName(random: Random): string {
  return `${random.text(32, nix32Digits)}-${random.text(1 + random.below(random.oneIn(20) ? 211 : 20), nameCharacters)}`;
}

const narInfo: Target = {
  words: [
    'StorePath: ',
    'URL: ',
    'Compression: ',
    'FileHash: sha256:',
    'FileSize: ',
    'NarHash: sha256:',
    'NarSize: ',
    'References: ',
    'Deriver: ',
    'Sig: ',
    'CA: ',
    'CA: fixed:r:sha256:',
    'CA: text:sha256:',
    '\n',
    '\r\n',
    ': ',
    ' ',
    '/nix/store/',
    '\xff',
    '-1',
    '1e9',
  ],
  make: (random) => {
    const hash = (): string => `sha256:${nix32Encode(random.bytes(32))}`;
    const references = Array.from({ length: random.below(4) }, () => storeName(random)).join(' ');
    const lines = [
      `StorePath: /nix/store/${storeName(random)}`,
      `URL: nar/${nix32Encode(random.bytes(32))}.nar.xz`,
      `Compression: ${random.pick(['xz', 'none', 'zstd', 'bzip2', '', 'lzip'] as const)}`,
      `FileHash: ${hash()}`,
      `FileSize: ${random.number()}`,
      `NarHash: ${hash()}`,
      `NarSize: ${1 + random.number()}`,
      `References: ${references}`,
      ...(random.oneIn(2) ? [`Deriver: ${storeName(random)}.drv`] : []),
      ...(random.oneIn(3)
        ? [`CA: ${random.pick(['fixed:', 'fixed:r:', 'text:', 'nar:'] as const)}${hash()}`]
        : []),
      ...Array.from({ length: random.below(3) }, () => `Sig: a-1:${random.bytes(64).toString('base64')}`),
    ].filter(() => !random.oneIn(50));
    return Buffer.from(`${lines.join('\n')}\n`);
  },
  run: (input) => {
    const read = unlessRefused(['narinfo-corrupt'], () => parseNarInfo(input));
    if (read === undefined) return 'refused';
    holds(Buffer.from(printNarInfo(read)).equals(input), 'a narinfo is passed on byte for byte');
    // With values as they were read, a narinfo can be made, moved and signed, and is then what it was.
    const made = makeNarInfo(read);
    holds(fingerprint(made) === fingerprint(read), 'what is signed survives being written anew');
    const moved = parseNarInfo(printNarInfo(withUrl(read, 'nar/elsewhere')));
    holds(
      moved.url === 'nar/elsewhere' && fingerprint(moved) === fingerprint(read),
      'a narinfo can be moved',
    );
    verifyNarInfo(read, keys);
    storePathFollowsFromCa(read);
    if (read.sigs.length < 64) parseNarInfo(withSignature(read, 'a:b').text);
    return 'accepted';
  },
};

function randomNode(random: Random, depth: number): Buffer {
  const kind = random.below(depth > 3 ? 2 : 3);
  if (kind === 0) return narSymlink(random.text(1 + random.below(20), '/.ab'));
  if (kind === 1) {
    const lengthBytes = random.below(40);
    const start = narRegularStart(lengthBytes, random.oneIn(2));
    return Buffer.concat([
      start,
      random.bytes(lengthBytes),
      Buffer.alloc(narPaddingBytes(lengthBytes)),
      narNodeEnd,
    ]);
  }
  const names = new Set(
    Array.from({ length: random.below(4) }, () => random.text(1 + random.below(4), 'abc_.')),
  );
  const entries = [...names]
    .sort()
    .flatMap((name) => [narEntryStart(name), randomNode(random, depth + 1), narNodeEnd]);
  return Buffer.concat([narDirectoryStart, ...entries, narNodeEnd]);
}

/** What a reader tells of a NAR, and where it breaks off. */
function narTold(chunks: Iterable<Buffer>): { told: string; error: string | undefined } {
  const told: string[] = [];
  const checked = (path: string): string => {
    const parts = path.split('/');
    holds(
      parts.length <= narMaxDepth && !parts.includes('..') && !parts.includes('.'),
      'a path leads downwards',
    );
    holds(
      parts.every((part) => part.length <= narNameMaxBytes),
      'a name is bounded',
    );
    return path;
  };
  const reader = new NarReader({
    directory: (path) => told.push(`d ${checked(path)}`),
    regular: (path, size, executable, offset) =>
      told.push(`f ${checked(path)} ${size} ${executable} ${offset}`),
    symlink: (path, target) => {
      holds(target.length <= narTargetMaxBytes, 'a target is bounded');
      told.push(`l ${checked(path)} ${target}`);
    },
  });
  try {
    for (const chunk of chunks) reader.write(chunk);
    reader.end();
    return { told: told.join('\n'), error: undefined };
  } catch (error) {
    if (!isNarswarmError(error, 'nar-corrupt', 'nar-truncated')) throw error;
    return { told: told.join('\n'), error: `${error.code} ${error.offset}` };
  }
}

const nar: Target = {
  words: [
    'nix-archive-1',
    '(',
    ')',
    'type',
    'regular',
    'executable',
    'contents',
    'symlink',
    'target',
    'directory',
    'entry',
    'name',
    'node',
    '..',
    '.',
    '/',
    '',
  ].map((word) => narString(word).toString('latin1')),
  make: (random) => Buffer.concat([narMagic, randomNode(random, 0)]),
  run: (input, random) => {
    const whole = narTold([input]);
    const cut = narTold(random.chunks(input));
    holds(whole.told === cut.told && whole.error === cut.error, 'chunks do not change what a NAR says');
    if (whole.error !== undefined) return 'refused';
    const lister = new NarLister();
    lister.write(input);
    JSON.stringify(lister.finish());
    return 'accepted';
  },
};

const torrentInfo: Target = {
  words: [
    'FileHash: sha256:',
    'FileSize: ',
    'Compression: ',
    'NarHash: sha256:',
    'NarSize: ',
    'InfoHash: ',
    'NarInfoHash: ',
    'Sig: ',
    '\n',
    '\r',
    ': ',
    'none',
    'xz',
    '0',
    '1099511627777',
  ],
  make: (random) => {
    const compression = compressions[random.below(compressions.length)] ?? 'none';
    const fileHash = sha256FromDigest(random.bytes(32));
    const infoHash = infoHashFromDigest(random.bytes(20));
    const fileSize = 1 + random.below(2 ** 32);
    const plain = compression === 'none';
    const unsigned = {
      fileHash,
      fileSize,
      compression,
      narHash: plain ? fileHash : sha256FromDigest(random.bytes(32)),
      narSize: plain ? fileSize : 1 + random.below(2 ** 32),
      infoHash,
      narInfoHash: plain ? infoHash : infoHashFromDigest(random.bytes(20)),
    };
    // A signature takes longer than all the rest.
    const signed = random.oneIn(20)
      ? signTorrentInfo(unsigned, secret)
      : { ...unsigned, sigs: [`a-1:${random.bytes(64).toString('base64')}`] };
    return Buffer.from(printTorrentInfo(signed));
  },
  run: (input, random) => {
    const read = unlessRefused(['torrentinfo-corrupt'], () => parseTorrentInfo(input));
    if (read === undefined) return 'refused';
    holds(read.sigs.length <= torrentInfoSigsMax, 'signatures are bounded');
    const printed = printTorrentInfo(read);
    holds(printTorrentInfo(parseTorrentInfo(printed)) === printed, 'it is written as it was read');
    // Lines that are not known are left out, and those that are have one spelling.
    const lines = new Set(input.toString('latin1').split('\n'));
    for (const line of printed.split('\n')) holds(lines.has(line), 'a line has one spelling');
    if (random.oneIn(20)) verifyTorrentInfo(read, keys);
    return 'accepted';
  },
};

const storePath: Target = {
  words: ['/nix/store/', '/', '..', '.', '-', '\0', '\xe4', 'e', 'u', '.drv', '%2f'],
  make: (random) =>
    Buffer.from(
      random.pick([
        `/nix/store/${storeName(random)}`,
        storeName(random),
        `${nix32Encode(random.bytes(32))}.nar.xz`,
      ]),
    ),
  run: (input) => {
    const text = input.toString('latin1');
    const refusal = ['store-path-invalid'] as const;
    const path = unlessRefused(refusal, () => parseStorePath(text));
    if (path !== undefined) {
      holds(
        `${storeDirOf(path)}/${storePathName(path)}` === text,
        'a store path is its directory and its name',
      );
      holds(!text.includes('/../') && !text.includes('\0'), 'a store path leads nowhere else');
    }
    const name = unlessRefused(refusal, () => parseStorePathName(text));
    if (name !== undefined) {
      holds(/^[0-9a-zA-Z+\-._?=]+$/.test(name), 'a name is a name of a file');
      parseStoreHash(name.slice(0, 32));
    }
    const file = parseNarFileName(text);
    if (file !== undefined)
      holds(narFileName(file.fileHash, file.compression) === text, 'a NAR file has one name');
    return verdict(path ?? name ?? file);
  },
};

const hash: Target = {
  words: ['sha256:', 'sha256-', 'sha1:', 'sha512:', 'md5:', ':', '-', '=', 'z', 'e', '\0'],
  make: (random) => {
    const [algorithm, count] = random.pick([
      ['md5', 16],
      ['sha1', 20],
      ['sha256', 32],
      ['sha512', 64],
    ] as const);
    const digest = random.bytes(count);
    const digits = random.pick([digest.toString('hex'), nix32Encode(digest), digest.toString('base64')]);
    return Buffer.from(random.oneIn(6) ? digits : `${algorithm}${random.oneIn(3) ? '-' : ':'}${digits}`);
  },
  run: (input) => {
    const text = input.toString('latin1');
    const refusal = ['hash-invalid'] as const;
    const read = unlessRefused(refusal, () => parseHash(text));
    if (read !== undefined) {
      const again = parseHash(`${read.algorithm}:${nix32Encode(read.digest)}`);
      holds(again.digest.equals(read.digest), 'every spelling is one hash');
    }
    const sha256 = unlessRefused(refusal, () => parseSha256(text));
    if (sha256 !== undefined) {
      holds(parseSha256(printSha256(sha256)) === sha256, 'a hash is written as it was read');
      holds(sha256FromDigest(sha256ToDigest(sha256)) === sha256, 'a hash is its digest');
    }
    const infoHash = unlessRefused(refusal, () => parseInfoHash(text));
    return verdict(read ?? sha256 ?? infoHash);
  },
};

const key: Target = {
  words: [':', '=', '==', '\n', ' ', 'A', '\0', 'cache.nixos.org-1:'],
  make: (random) => {
    const name = random.text(1 + random.below(12), 'abc.-1');
    if (random.oneIn(50)) return Buffer.from(printSecretKey(secretKeyFromSeed('a', random.bytes(32))));
    if (random.oneIn(50)) return Buffer.from(sign(secret, 'text'));
    return Buffer.from(`${name}:${random.bytes(random.pick([32, 64, 31] as const)).toString('base64')}`);
  },
  run: (input) => {
    const text = input.toString('latin1');
    const read = unlessRefused(['key-invalid'], () => parsePublicKey(text));
    if (read !== undefined) holds(printPublicKey(read) === text.trim(), 'a key has one spelling');
    const secretKey = unlessRefused(['key-invalid'], () => parseSecretKey(text));
    if (secretKey !== undefined)
      holds(printSecretKey(secretKey) === text.trim(), 'a secret key has one spelling');
    const signer = verifySignature(keys, 'text', text);
    holds(signer === undefined || text === sign(secret, 'text'), 'a signature has one spelling');
    return verdict(read ?? secretKey ?? signer);
  },
};

const cacheInfo: Target = {
  words: [
    'StoreDir: ',
    'WantMassQuery: ',
    'Priority: ',
    '/nix/store',
    '\n',
    ':',
    '-',
    '1',
    '\0',
    '999999999',
  ],
  make: (random) =>
    Buffer.from(
      random.oneIn(8)
        ? 'StoreDir:/gnu/store\r\n\nX: y\n'
        : printCacheInfo({
            storeDir: `/${random.text(8, 'abc')}/store`,
            wantMassQuery: random.oneIn(2),
            priority: random.below(100) - 50,
          }),
    ),
  run: (input) => {
    const read = unlessRefused(['cache-info-corrupt'], () => parseCacheInfo(input.toString('utf8')));
    if (read === undefined) return 'refused';
    const again = parseCacheInfo(printCacheInfo(read));
    holds(JSON.stringify(again) === JSON.stringify(read), 'it is written as it was read');
    return 'accepted';
  },
};

function verdict(value: unknown): Verdict {
  return value === undefined ? 'refused' : 'accepted';
}

export const nixTargets = {
  narinfo: narInfo,
  nar,
  torrentinfo: torrentInfo,
  'store-path': storePath,
  hash,
  key,
  'cache-info': cacheInfo,
} satisfies Record<string, Target>;
