import { hash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import t from 'tap';
import { Chain, firstChain } from '../../catalog/chain.ts';
import {
  catalogFileMaxBytes,
  type HeadValues,
  headText,
  parseHead,
  segmentFileMaxBytes,
  signHead,
  verifyHead,
} from '../../catalog/head.ts';
import {
  type CatalogRecord,
  decodeRecord,
  type FramedRecord,
  frameRecord,
  recordMaxBytes,
} from '../../catalog/record.ts';
import {
  parseSegmentName,
  readSegment,
  SegmentParser,
  segmentMagic,
  segmentName,
  writeSegment,
} from '../../catalog/segment.ts';
import { isNarswarmError } from '../../nar/errors.ts';
import { infoHashFromDigest, type Sha256, sha256FromDigest, sha256ToDigest } from '../../nar/hash.ts';
import { parsePublicKey, printPublicKey, secretKeyFromSeed } from '../../nar/signature.ts';
import { TorrentHasher } from '../../swarm/torrent/torrent.ts';
import { narFiles } from './made-log.ts';

interface Vectors {
  key: { name: string; seed: string; publicKey: string };
  nixStoreDir: string;
  firstChain: Sha256;
  records: { what: string; framed: string; chain: Sha256 }[];
  segment: {
    file: string;
    plainSha256: Sha256;
    records: number;
    chain: Sha256;
    sha256: Sha256;
    sizeBytes: number;
    infoHash: string;
  };
  heads: { what: string; text: string; signedText: string; signedBy: string[] }[];
  untrusted: { why: string; text: string }[];
  refused: { code: string; why: string; text: string }[];
}

const vectors = JSON.parse(
  readFileSync(new URL('../../docs/vectors/catalog.json', import.meta.url), 'utf8'),
) as Vectors;
const secret = secretKeyFromSeed(vectors.key.name, Buffer.from(vectors.key.seed, 'hex'));
const key = parsePublicKey(vectors.key.publicKey);

async function recordsIn(file: Buffer): Promise<FramedRecord[]> {
  const records: FramedRecord[] = [];
  for await (const group of readSegment(inChunks(file))) records.push(...group);
  return records;
}

async function* inChunks(bytes: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += 1000) yield bytes.subarray(at, at + 1000);
}

t.test('the golden records are read, framed and chained', async (t) => {
  t.equal(firstChain(vectors.nixStoreDir), vectors.firstChain);
  const file = Buffer.from(vectors.segment.file, 'base64');
  t.equal(sha256FromDigest(hash('sha256', file, 'buffer')), vectors.segment.sha256);
  t.equal(file.length, vectors.segment.sizeBytes);
  const hasher = new TorrentHasher(file.length);
  hasher.write(file);
  t.equal(hasher.finish(segmentName(vectors.segment.sha256)).infoHash, vectors.segment.infoHash);
  const records = await recordsIn(file);
  t.equal(records.length, vectors.records.length);
  const chain = new Chain(sha256ToDigest(vectors.firstChain));
  for (const [index, { what, framed, chain: expected }] of vectors.records.entries()) {
    const record = records[index];
    if (record === undefined) throw new Error('no record');
    t.equal(record.framed.toString('base64'), framed, what);
    chain.add(record.framed);
    t.ok(chain.isAt(sha256ToDigest(expected)), what);
    t.equal(decodeRecord(record)?.kind, what === 'a kind that is not known' ? undefined : record.kind, what);
  }
  t.equal(sha256FromDigest(chain.digest()), vectors.segment.chain);
  const again: Buffer[] = [];
  for await (const chunk of writeSegment(records.map(({ framed }) => framed))) again.push(chunk);
  t.strictSame(await recordsIn(Buffer.concat(again)), records, 'another frame, the same records');
});

t.test('the golden heads are parsed, printed, signed and verified', async (t) => {
  const page = readFileSync(new URL('../../docs/format.md', import.meta.url), 'utf8');
  t.ok(page.includes(vectors.heads[0]?.text ?? '?'), 'the page shows the first one');
  t.ok(page.includes(vectors.firstChain));
  for (const { what, text, signedText, signedBy } of vectors.heads) {
    const head = parseHead(text);
    t.equal(head.signedText, signedText, what);
    t.equal(headText(head), signedText, what);
    t.strictSame(
      head.sigs.map((sig) => sig.slice(0, sig.indexOf(':'))),
      signedBy,
      what,
    );
    t.equal(verifyHead(head, [key]), key.name, what);
    if (signedBy.length === 1)
      t.equal(signHead(head, [secret]), text, 'Ed25519 signatures are deterministic');
  }
  for (const { why, text } of vectors.untrusted) t.equal(verifyHead(parseHead(text), [key]), undefined, why);
  for (const { code, why, text } of vectors.refused) t.throws(() => parseHead(text), { code }, why);
});

const digest = (bytes: number) => fc.uint8Array({ minLength: bytes, maxLength: bytes });
const sha256 = digest(32).map(sha256FromDigest);
const fileOf = (maxBytes: number) =>
  fc.record({
    sha256,
    sizeBytes: fc.integer({ min: 1, max: maxBytes }),
    infoHash: digest(20).map(infoHashFromDigest),
  });
const headValues: fc.Arbitrary<HeadValues> = fc
  .record({
    nixStoreDir: fc.constantFrom('/nix/store', '/gnu/store', '/a'),
    sequence: fc.nat(),
    time: fc.nat(),
    lifetime: fc.integer({ min: 1, max: 10 ** 9 }),
    segments: fc.array(fc.tuple(fc.integer({ min: 1, max: 65_536 }), sha256, fileOf(segmentFileMaxBytes)), {
      maxLength: 5,
    }),
    views: fc.uniqueArray(
      fc.tuple(fc.stringMatching(/^[a-z0-9][a-z0-9._-]{0,20}$/), fc.nat(), fileOf(catalogFileMaxBytes)),
      {
        maxLength: 3,
        selector: ([name]) => name,
      },
    ),
  })
  .map(({ lifetime, segments, views, ...rest }) => {
    let records = 0;
    return {
      ...rest,
      expires: rest.time + lifetime,
      segments: segments.map(([count, chain, each]) => {
        records += count;
        return { records, chain, ...each };
      }),
      views: views.map(([name, paths, each]) => ({ name, paths, ...each })),
      keys: [printPublicKey(key)],
    };
  });

t.test('every head survives being signed and parsed, and no byte of it can change unnoticed', async () => {
  fc.assert(
    fc.property(headValues, fc.nat(), fc.integer({ min: 1, max: 127 }), (values, where, flip) => {
      const text = signHead(values, [secret]);
      const head = parseHead(text);
      if (headText(head) !== head.signedText || verifyHead(head, [key]) !== key.name) return false;
      const bytes = Buffer.from(text, 'latin1');
      const at = where % bytes.length;
      bytes[at] = (bytes[at] ?? 0) ^ flip;
      try {
        const other = parseHead(bytes.toString('latin1'));
        return verifyHead(other, [key]) === undefined || other.signedText === head.signedText;
      } catch (error) {
        return isNarswarmError(error, 'head-corrupt', 'catalog-gap');
      }
    }),
    { numRuns: 300 },
  );
});

t.test('records come out as they went in, however the chunks fall', async () => {
  const reason = fc
    .string({ minLength: 1, maxLength: 40, unit: 'grapheme' })
    .filter((text) => !/[\p{C}\p{Z}]/u.test(text));
  const revocation = fc.record({
    kind: fc.constant('revocation' as const),
    fileHash: sha256,
    time: fc.nat(),
    reason,
  });
  const record: fc.Arbitrary<CatalogRecord> = fc.oneof(revocation, fc.constantFrom(...narFiles(1, 5)));
  fc.assert(
    fc.property(fc.array(record, { maxLength: 8 }), fc.array(fc.nat(), { maxLength: 6 }), (records, cuts) => {
      const framed = records.map(frameRecord);
      const plain = Buffer.concat([Buffer.from(segmentMagic), ...framed]);
      const ends = [...cuts.map((cut) => cut % plain.length), plain.length].sort((a, b) => a - b);
      const parser = new SegmentParser();
      const read = ends.flatMap((end, index) => parser.write(plain.subarray(ends[index - 1] ?? 0, end)));
      parser.end();
      return (
        read.length === framed.length &&
        read.every((each, index) => each.framed.equals(framed[index] ?? Buffer.alloc(0)))
      );
    }),
  );
});

t.test('arbitrary bytes never fail in another way', async () => {
  const part = fc.oneof(
    fc.constantFrom(
      segmentMagic,
      'torrentinfo 5\n',
      'narinfo ',
      ' 0\n',
      `pack x ${recordMaxBytes}\n`,
      'revocation ',
    ),
    fc.string({ maxLength: 60, unit: 'binary' }),
  );
  fc.assert(
    fc.property(fc.array(part, { maxLength: 8 }), (parts) => {
      const parser = new SegmentParser();
      try {
        for (const record of parser.write(Buffer.from(parts.join('')))) decodeRecord(record);
        parser.end();
        return true;
      } catch (error) {
        return isNarswarmError(error, 'segment-corrupt', 'segment-truncated', 'record-corrupt');
      }
    }),
    { numRuns: 1000 },
  );
});

t.test('file names are those of hashes', async (t) => {
  const { sha256: hashed } = vectors.segment;
  t.equal(parseSegmentName(segmentName(hashed)), hashed);
  for (const other of [
    'head',
    `${hashed}.segment`,
    `2${hashed.slice(1)}.segment.zst`,
    `../${segmentName(hashed)}`,
  ]) {
    t.equal(parseSegmentName(other), undefined, other);
  }
});

t.test('nothing is written that no reader would take', async (t) => {
  const { sha256: fileHash } = vectors.segment;
  const wrong: CatalogRecord[] = [
    { kind: 'torrentinfo', text: 'FileHash: x\n' },
    { kind: 'narinfo', fileHash, text: 'StorePath: x\n' },
    { kind: 'revocation', fileHash, time: -1, reason: 'x' },
    { kind: 'revocation', fileHash, time: 1, reason: '' },
    { kind: 'revocation', fileHash, time: 1, reason: 'two\nlines' },
    { kind: 'revocation', fileHash, time: 1, reason: 'x'.repeat(1025) },
  ];
  for (const record of wrong) t.throws(() => frameRecord(record), { code: 'record-corrupt' });
});
