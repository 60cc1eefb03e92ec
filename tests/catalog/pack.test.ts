import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import t from 'tap';
import {
  type Pack,
  type PackContent,
  packFiles,
  packFilesMax,
  packInfoName,
  packLength,
  packManifestMaxBytes,
  packMaxBytes,
  packName,
  packSigsMax,
  packText,
  parsePack,
  printPack,
  signPack,
  verifyPack,
} from '../../catalog/pack.ts';
import { packNarInfo, packNarInfoMaxBytes } from '../../catalog/pack-narinfo.ts';
import { packOrder } from '../../catalog/pack-order.ts';
import { compressions } from '../../nar/compression.ts';
import { isNarswarmError } from '../../nar/errors.ts';
import { infoHashFromDigest, type Sha256, sha256FromDigest } from '../../nar/hash.ts';
import { parseNarInfo } from '../../nar/narinfo.ts';
import { nix32Encode } from '../../nar/nix32.ts';
import { parsePublicKey, secretKeyFromSeed } from '../../nar/signature.ts';
import { parseStoreHash } from '../../nar/store-path.ts';
import { packTorrentFilesMax, packTorrentMaxBytes } from '../../swarm/torrent/pack-torrent.ts';
import { sha256 } from '../helpers/cache-builder.ts';
import { packVectors } from '../helpers/pack-vectors.ts';

const secret = secretKeyFromSeed(packVectors.key.name, Buffer.from(packVectors.key.seed, 'hex'));
const key = parsePublicKey(packVectors.key.publicKey);
const page = readFileSync(new URL('../../docs/format.md', import.meta.url), 'utf8');

const digest = (bytes: number) => fc.uint8Array({ minLength: bytes, maxLength: bytes });
/** As parsers make objects. */
const plain = <T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }) =>
  fc.record(model, { noNullPrototype: true });
const hash = digest(32).map(sha256FromDigest);
const content: fc.Arbitrary<PackContent> = plain({
  storeDir: fc.constantFrom('/nix/store', '/gnu/store', '/a'),
  narInfos: fc.uniqueArray(
    plain({
      storeHash: digest(20).map((bytes) => parseStoreHash(nix32Encode(bytes))),
      sha256: hash,
      sizeBytes: fc.integer({ min: 1, max: packNarInfoMaxBytes }),
    }),
    { minLength: 1, maxLength: 20, selector: ({ storeHash }) => storeHash },
  ),
  narFiles: fc.uniqueArray(
    plain({
      fileHash: hash,
      fileSize: fc.integer({ min: 1, max: 2 ** 26 }),
      compression: fc.constantFrom(...compressions),
    }),
    { minLength: 1, maxLength: 20, selector: ({ fileHash }) => fileHash },
  ),
});
const pack: fc.Arbitrary<Pack> = fc
  .record({ content, infoHash: digest(20).map(infoHashFromDigest) })
  .map((made) => ({ ...made.content, infoHash: made.infoHash, sigs: [] }));

t.test('the golden vectors are parsed, printed, signed and verified', async (t) => {
  for (const { what, manifest, name, length, infoHash, cacheInfo } of packVectors.packs) {
    const parsed = parsePack(manifest);
    t.equal(printPack(parsed), manifest, what);
    t.match({ infoHash: parsed.infoHash, name: packName(parsed), length: packLength(parsed) }, {
      infoHash,
      name,
      length,
    } as object);
    t.equal(verifyPack(parsed, [key]), key.name, what);
    t.equal(verifyPack(parsed, [secretKeyFromSeed('other-1', Buffer.alloc(32, 7)).publicKey]), undefined);
    t.equal(packFiles(parsed)[0]?.sha256, sha256(Buffer.from(cacheInfo)));
    t.strictSame(signPack({ ...parsed, sigs: [] }, secret), parsed, 'Ed25519 signatures are deterministic');
  }
  const [first] = packVectors.packs;
  t.ok(first && page.includes(first.manifest), 'the page shows the first one');
  t.ok(page.includes(first?.name ?? '-'));
  t.equal(packInfoName(parsePack(first?.manifest ?? '').infoHash), `${first?.infoHash}.packinfo`);
});

t.test('what nobody trusted signed is parsed and not verified', async (t) => {
  for (const { why, text } of packVectors.untrusted)
    t.equal(verifyPack(parsePack(text), [key]), undefined, why);
});

t.test('what breaks a rule is refused', async (t) => {
  for (const { why, text } of packVectors.refused)
    t.throws(() => parsePack(text), { code: 'pack-corrupt' }, why);
});

t.test('printing and parsing are each other’s inverse; a signature covers all of it', async (t) => {
  fc.assert(
    fc.property(pack, fc.nat(), (made, at) => {
      const text = printPack(made);
      t.strictSame(parsePack(Buffer.from(text)), made);
      const signed = signPack(made, secret);
      const signedText = packText(signed);
      const place = at % signedText.length;
      const other = String.fromCharCode(signedText.charCodeAt(place) ^ 1);
      const spoilt = signedText.slice(0, place) + other + signedText.slice(place + 1);
      const whole = spoilt + printPack(signed).slice(signedText.length);
      try {
        t.equal(verifyPack(parsePack(whole), [key]), undefined);
      } catch (error) {
        if (!isNarswarmError(error, 'pack-corrupt')) throw error;
      }
    }),
    { numRuns: 100 },
  );
});

t.test('any text is parsed to what prints the same, or refused', async (t) => {
  const [first = ''] = packVectors.packs.map(({ manifest }) => manifest);
  const lines = first.split('\n').map((line) => `${line}\n`);
  const text = fc.oneof(
    fc.string(),
    fc.array(fc.constantFrom(...lines, 'File: 1 nar x\n', '\n', 'Length: 2941\n')).map((all) => all.join('')),
    fc.tuple(fc.nat(first.length), fc.nat(5), fc.string()).map(([at, cut, put]) => {
      return first.slice(0, at) + put + first.slice(at + cut);
    }),
  );
  fc.assert(
    fc.property(text, (input) => {
      try {
        t.equal(printPack(parsePack(input)), input);
      } catch (error) {
        if (!isNarswarmError(error, 'pack-corrupt') || error.offset === undefined) throw error;
      }
    }),
    { numRuns: 2_000 },
  );
});

function largest(files: number): PackContent {
  const numbered = (k: number): Sha256 => sha256(Buffer.from(`${k}`));
  const storeHash = (k: number) => parseStoreHash(numbered(k).slice(-32));
  const narInfos = Array.from({ length: files - 2 }, (_, k) => {
    return { storeHash: storeHash(k), sha256: numbered(k), sizeBytes: 100_000 };
  });
  const narFiles = [{ fileHash: numbered(0), fileSize: 1_000_000, compression: 'bzip2' as const }];
  return { storeDir: '/nix/store', narInfos, narFiles };
}

t.test('bounds: files, bytes, signatures, the text', async (t) => {
  const infoHash = infoHashFromDigest(Buffer.alloc(20));
  const full = { ...largest(packFilesMax), infoHash, sigs: [] };
  const text = printPack(full);
  t.equal(parsePack(text).narInfos.length, packFilesMax - 2);
  t.ok(text.length + packSigsMax * 400 < packManifestMaxBytes);
  t.throws(() => parsePack(printPack({ ...largest(packFilesMax + 1), infoHash, sigs: [] })), {
    code: 'pack-corrupt',
    message: /more than/,
  });
  t.throws(() => parsePack(Buffer.alloc(packManifestMaxBytes + 1, 'a')), { message: /longer than/ });
  const [narFile] = full.narFiles;
  if (narFile === undefined) throw new Error('no NAR file');
  const large = (fileSize: number): string => printPack({ ...full, narFiles: [{ ...narFile, fileSize }] });
  const others = packLength(full) - narFile.fileSize;
  parsePack(large(packMaxBytes - others));
  t.throws(() => parsePack(large(packMaxBytes - others + 1)), { code: 'pack-corrupt' });
  const [narInfo] = full.narInfos;
  if (narInfo === undefined) throw new Error('no narinfo');
  const long = { ...full, narInfos: [{ ...narInfo, sizeBytes: packNarInfoMaxBytes + 1 }] };
  t.throws(() => signPack(long, secret), { code: 'pack-corrupt' });
  t.equal(packTorrentFilesMax, packFilesMax, 'the torrent has the same bounds');
  t.equal(packTorrentMaxBytes, packMaxBytes);
});

t.test('files follow each other without gaps, narinfos before NAR files', async (t) => {
  fc.assert(
    fc.property(content, (made) => {
      let offset = 0;
      for (const file of packFiles(made)) {
        t.equal(file.offset, offset);
        offset += file.sizeBytes;
      }
      t.equal(offset, packLength(made));
    }),
    { numRuns: 50 },
  );
});

t.test('a narinfo in a pack names its NAR file there, and stays verbatim in all else', async (t) => {
  for (const { what, text, packed, ...file } of packVectors.narInfos) {
    t.equal(packNarInfo(text, file), packed, what);
    t.equal(packNarInfo(packed, file), packed, `${what}: once more changes nothing`);
    const { url, fileHash, fileSize, ...rest } = parseNarInfo(packed);
    t.match({ fileHash, fileSize }, { fileHash: file.fileHash, fileSize: file.fileSize });
    t.equal(url, `nar/${file.fileHash}.nar.zst`);
    const { url: _url, fileHash: _hash, fileSize: _size, ...before } = parseNarInfo(text);
    t.strictSame({ ...rest, text: '' }, { ...before, text: '' });
  }
  const [first] = packVectors.narInfos;
  if (first === undefined) throw new Error('no vector');
  t.throws(() => packNarInfo('no narinfo', first), { code: 'narinfo-corrupt' });
  const long = `${first.text}Long: ${'x'.repeat(packNarInfoMaxBytes)}\n`;
  t.throws(() => packNarInfo(long, first), { code: 'narinfo-corrupt' });
});

const referring = (item: string, references: string) => ({
  item,
  storeHashes: [item],
  references: references.split(''),
});

t.test('each NAR file comes after those that it refers to, and a closure lies together', async (t) => {
  const order = packOrder([
    referring('a', 'ab'),
    referring('b', 'dx'),
    referring('c', ''),
    referring('d', ''),
    referring('e', 'bc'),
  ]);
  t.equal(order.join(''), 'dbace');
});

t.test(
  'circles end, two paths of one NAR file count as one, and a long chain is no deep recursion',
  async (t) => {
    t.equal(packOrder([referring('a', 'b'), referring('b', 'c'), referring('c', 'a')]).join(''), 'cba');
    const two = { item: 'z', storeHashes: ['x', 'y'], references: [] };
    t.equal(packOrder([referring('a', 'y'), referring('b', 'x'), two]).join(''), 'zab');
    const chain = Array.from({ length: 100_000 }, (_, k) => {
      return { item: k, storeHashes: [`${k}`], references: [`${k + 1}`] };
    });
    t.equal(packOrder(chain)[0], 99_999);
  },
);

t.test('any graph: everything once, and what is referred to first unless they go in a circle', async (t) => {
  const graph = fc.array(fc.array(fc.nat(30), { maxLength: 4 }), { maxLength: 30 });
  fc.assert(
    fc.property(graph, fc.boolean(), (edges, circles) => {
      const items = edges.map((references, item) => ({
        item,
        storeHashes: [`${item}`],
        references: references.filter((to) => circles || to < item).map(String),
      }));
      const order = packOrder(items);
      t.strictSame(
        [...order].sort((a, b) => a - b),
        items.map(({ item }) => item),
      );
      if (circles) return;
      for (const { item, references } of items)
        for (const to of references) t.ok(order.indexOf(Number(to)) < order.indexOf(item));
    }),
    { numRuns: 200 },
  );
});
