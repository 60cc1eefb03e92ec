/** What is read of a catalog: heads, segments and their records. */

import { isDeepStrictEqual } from 'node:util';
import { headText, parseHead, signHead } from '../../catalog/head.ts';
import { decodeRecord, frameRecord } from '../../catalog/record.ts';
import { SegmentParser, segmentLimits, segmentMagic } from '../../catalog/segment.ts';
import { infoHashFromDigest, sha256FromDigest } from '../../nar/hash.ts';
import { parseNarInfoLines } from '../../nar/narinfo.ts';
import { printPublicKey, secretKeyFromSeed } from '../../nar/signature.ts';
import { readUsualNarInfo, usualNarInfo } from '../../nar/usual-narinfo.ts';
import type { Random } from './random.ts';
import { holds, type Target, unlessRefused } from './target.ts';

const secret = secretKeyFromSeed('fuzz-1', Buffer.alloc(32, 1));
const nixStoreDir = '/nix/store';

/** Some that are right: a signature takes longer than all the rest. */
const heads = Array.from({ length: 8 }, (_, count) => {
  const fileOf = (number: number) => ({
    sha256: sha256FromDigest(Buffer.alloc(32, number)),
    sizeBytes: 1 + number,
    infoHash: infoHashFromDigest(Buffer.alloc(20, number)),
  });
  const segments = Array.from({ length: count }, (_none, index) => {
    return { records: 10 * (index + 1), chain: sha256FromDigest(Buffer.alloc(32, 9)), ...fileOf(index) };
  });
  const views = count % 2 === 0 ? [] : [{ name: 'channel', paths: 9, ...fileOf(count) }];
  const keys = [printPublicKey(secret.publicKey)];
  return signHead({ nixStoreDir, sequence: count, time: 1, expires: 9, segments, views, keys }, [secret]);
});

const head: Target = {
  words: [
    'Segment: ',
    'View: ',
    'Key: ',
    'Sig: ',
    'Records: ',
    'Chain: ',
    '\n',
    ' ',
    '..',
    '18446744073709551616',
    '\u00ff',
  ],
  make: (random) => Buffer.from(heads[random.below(heads.length)] ?? '', 'latin1'),
  run: (input) => {
    const codes = ['head-corrupt', 'catalog-gap'] as const;
    const read = unlessRefused(codes, () => parseHead(input.toString('latin1')));
    if (read === undefined) return 'refused';
    holds(read.signedText.length <= read.text.length, 'the signed text is a part of the text');
    holds((read.segments.at(-1)?.records ?? 0) === read.records, 'the segments end with the last record');
    holds(
      read.segments.every(({ records }, index) => records > (read.segments[index - 1]?.records ?? 0)),
      'and rise',
    );
    const again = parseHead(headText(read));
    holds(headText(again) === headText(read), 'it is written as it was read');
    return 'accepted';
  },
};

const narInfo = (random: Random): string =>
  [
    `StorePath: /nix/store/${'a'.repeat(32)}-name-${random.below(9)}`,
    'URL: nar/x.nar.xz',
    `Compression: ${random.pick(['xz', 'zstd', ''] as const)}`,
    `NarHash: sha256:${sha256FromDigest(random.bytes(32))}`,
    `NarSize: ${1 + random.below(999)}`,
    `References: ${random.oneIn(2) ? '' : `${'b'.repeat(32)}-other`}`,
    ...(random.oneIn(2) ? [] : ['Deriver: x.drv']),
    ...(random.oneIn(2) ? [] : ['Sig: a:b']),
    '',
  ].join('\n');

const segment: Target = {
  words: [
    segmentMagic,
    'torrentinfo ',
    'narinfo ',
    'pack ',
    'revocation ',
    ' 0\n',
    '\n',
    ' ',
    '99999999',
    '-1',
    'Sig: ',
  ],
  make: (random) => {
    const fileHash = sha256FromDigest(random.bytes(32));
    const records = Array.from({ length: random.below(4) }, () =>
      frameRecord(
        random.oneIn(2)
          ? { kind: 'narinfo', fileHash, text: narInfo(random) }
          : { kind: 'revocation', fileHash, time: random.below(1e9), reason: `reason ${random.below(9)}` },
      ),
    );
    return Buffer.concat([Buffer.from(segmentMagic), ...records]);
  },
  run: (input, random) => {
    const codes = ['segment-corrupt', 'segment-truncated', 'record-corrupt', 'decompression-bomb'] as const;
    const parser = new SegmentParser(random.oneIn(8) ? { records: 1, bytes: 200 } : segmentLimits);
    const read = unlessRefused(codes, () => {
      let bytes = 0;
      for (let at = 0; at < input.length; ) {
        const end = Math.min(input.length, at + 1 + random.below(input.length));
        for (const record of parser.write(input.subarray(at, end))) {
          decodeRecord(record);
          bytes += record.framed.length;
        }
        at = end;
      }
      parser.end();
      return bytes;
    });
    if (read === undefined) return 'refused';
    holds(read + segmentMagic.length === input.length, 'every byte is of a record');
    return 'accepted';
  },
};

const usual: Target = {
  words: [
    'StorePath: ',
    'URL: ',
    'Compression: ',
    'FileHash: sha256:',
    'NarSize: 0',
    'References: ',
    'Sig: ',
    'CA: ',
    '\n',
    ' ',
    '..',
    '-',
  ],
  make: (random) => Buffer.from(narInfo(random)),
  run: (input) => {
    const found = usualNarInfo(input.toString('latin1'));
    if (found === undefined) return 'refused';
    const parsed = parseNarInfoLines(input.toString());
    holds(
      parsed.storePath.startsWith(`${found.storeDir}/${found.storeHash}-`),
      'the reader of lines finds the same path',
    );
    holds(parsed.fileHash === found.fileHash, 'and the same FileHash');
    holds(isDeepStrictEqual(readUsualNarInfo(input.toString()), parsed), 'and the same in all');
    return 'accepted';
  },
};

export const catalogTargets = {
  'catalog-head': head,
  'catalog-segment': segment,
  'usual-narinfo': usual,
} satisfies Record<string, Target>;
