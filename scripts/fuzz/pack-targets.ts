/** Packs: the manifest, the info dictionary, and the narinfo as a pack holds it. */

import {
  type Pack,
  packFiles,
  packFilesMax,
  packLength,
  packName,
  parsePack,
  printPack,
} from '../../catalog/pack.ts';
import { packNarInfo } from '../../catalog/pack-narinfo.ts';
import { compressions } from '../../nar/compression.ts';
import { infoHashFromDigest, sha256FromDigest } from '../../nar/hash.ts';
import { parseNarInfo } from '../../nar/narinfo.ts';
import { nix32Encode } from '../../nar/nix32.ts';
import { parseStoreHash } from '../../nar/store-path.ts';
import { makePackTorrent, packPieceLength, parsePackInfo } from '../../swarm/torrent/pack-torrent.ts';
import { infoDictionary } from '../../swarm/torrent/torrent.ts';
import type { Random } from './random.ts';
import { holds, type Target, unlessRefused } from './target.ts';

function packOf(random: Random): Pack {
  return {
    storeDir: '/nix/store',
    infoHash: infoHashFromDigest(random.bytes(20)),
    narInfos: Array.from({ length: 1 + random.below(4) }, () => ({
      storeHash: parseStoreHash(nix32Encode(random.bytes(20))),
      sha256: sha256FromDigest(random.bytes(32)),
      sizeBytes: 1 + random.below(9_000),
    })),
    narFiles: Array.from({ length: 1 + random.below(4) }, () => ({
      fileHash: sha256FromDigest(random.bytes(32)),
      fileSize: 1 + random.below(200_000),
      compression: random.pick(compressions),
    })),
    sigs: random.oneIn(2) ? [] : ['seeder-1:AAAA'],
  };
}

const manifest: Target = {
  words: [
    'Format: ',
    'StoreDir: ',
    'InfoHash: ',
    'Length: ',
    'File: ',
    ' narinfo ',
    ' nar ',
    'sha256:',
    'Sig: ',
    '\n',
    '0',
    '/..',
  ],
  make: (random) => Buffer.from(printPack(packOf(random))),
  run: (input) => {
    const pack = unlessRefused(['pack-corrupt'], () => parsePack(input));
    if (pack === undefined) return 'refused';
    holds(printPack(pack) === input.toString('latin1'), 'a manifest has one text');
    const files = packFiles(pack);
    holds(files.length <= packFilesMax, 'files are bounded');
    const last = files.at(-1);
    holds(last !== undefined && last.offset + last.sizeBytes === packLength(pack), 'files have no gaps');
    holds(
      files.every(({ path }) => path.every((name) => !/^\.\.?$|[/\\\0]/.test(name))),
      'paths stay inside',
    );
    return 'accepted';
  },
};

const info: Target = {
  words: [
    'd6:length',
    'i1e',
    '4:path',
    'l',
    'e',
    '3:nar',
    '14:nix-cache-info',
    '40:',
    '2:..',
    '12:piece length',
    '6:pieces',
  ],
  make: (random) => {
    const pack = packOf(random);
    const pieces = Buffer.alloc(Math.ceil(packLength(pack) / packPieceLength) * 20);
    return infoDictionary(makePackTorrent({ name: packName(pack), files: packFiles(pack), pieces }));
  },
  run: (input) => {
    const parsed = unlessRefused(['torrent-invalid'], () => parsePackInfo(input));
    if (parsed === undefined) return 'refused';
    holds(infoDictionary(parsed.torrent).equals(input), 'an info dictionary has one encoding');
    const paths = parsed.files.map(({ path }) => path.join('/'));
    holds(new Set(paths).size === paths.length, 'no file comes twice');
    holds(
      paths.every((path) => /^(nar\/)?[\w-]+(\.\w+)*$/.test(path)),
      'paths stay inside',
    );
    return 'accepted';
  },
};

const narInfo: Target = {
  words: ['URL: ', 'FileHash: ', 'FileSize: ', 'FileHash', ':', '\n', '\r\n', 'Sig: ', '\u0000'],
  make: (random) =>
    Buffer.from(
      [
        `StorePath: /nix/store/${nix32Encode(random.bytes(20))}-x`,
        `URL: ${random.pick(['nar/x.nar', 'https://h/x?y=1', '../..'] as const)}`,
        ...(random.oneIn(2) ? [] : [`FileHash: sha256:${sha256FromDigest(random.bytes(32))}`]),
        `NarHash: sha256:${sha256FromDigest(random.bytes(32))}`,
        'NarSize: 5',
        '',
      ].join('\n'),
    ),
  run: (input, random) => {
    const narFile = { fileHash: sha256FromDigest(random.bytes(32)), fileSize: 7, compression: 'xz' } as const;
    const text = input.toString('utf8');
    const packed = unlessRefused(['narinfo-corrupt'], () => packNarInfo(text, narFile));
    if (packed === undefined) return 'refused';
    const { url, fileHash, fileSize } = parseNarInfo(packed);
    holds(
      url === `nar/${narFile.fileHash}.nar.xz` && fileHash === narFile.fileHash && fileSize === 7,
      'it names its file',
    );
    holds(packNarInfo(packed, narFile) === packed, 'once more changes nothing');
    return 'accepted';
  },
};

export const packTargets = {
  'pack-manifest': manifest,
  'pack-info': info,
  'pack-narinfo': narInfo,
} satisfies Record<string, Target>;
