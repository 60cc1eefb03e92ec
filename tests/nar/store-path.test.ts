import t from 'tap';
import { parseCacheInfo, printCacheInfo } from '../../nar/cache-info.ts';
import { narFileName, parseNarFileName } from '../../nar/compression.ts';
import { parseSha256 } from '../../nar/hash.ts';
import {
  parseStoreHash,
  parseStorePath,
  parseStorePathName,
  storeDirOf,
  storeHashOf,
  storeNameMaxCharacters,
  storePathName,
} from '../../nar/store-path.ts';

const hash = '1q8w6gl1ll0mwfkqc3c2yx005s6wwfrl';
const invalid = { code: 'store-path-invalid' };

t.test('a store path has a directory, a hash and a name', async (t) => {
  const path = parseStorePath(`/nix/store/${hash}-hello-2.12.1`);
  t.equal(storeDirOf(path), '/nix/store');
  t.equal(storeHashOf(path), hash);
  t.equal(storePathName(path), `${hash}-hello-2.12.1`);
  t.equal(storeHashOf(storePathName(path)), hash);
  t.equal(storeDirOf(parseStorePath(`/home/me/.nix/${hash}-x`)), '/home/me/.nix');
  t.ok(parseStorePathName(`${hash}-.hidden`), 'newer Nix takes a leading dot');
});

t.test('what is no store path is refused', async (t) => {
  const bad = [
    '',
    'relative',
    `nix/store/${hash}-x`,
    `/${hash}-x`,
    `/nix/../store/${hash}-x`,
    `/nix//store/${hash}-x`,
    `/nix\0/store/${hash}-x`,
    `/nix/\x1b[2J/${hash}-x`,
    `/nix/\x7f/${hash}-x`,
    `/nix/store/${hash}`,
    `/nix/store/${hash}-`,
    `/nix/store/${hash}-.`,
    `/nix/store/${hash}-..`,
    `/nix/store/${hash}-..-x`,
    `/nix/store/${hash}-a b`,
    `/nix/store/${hash}-ä`,
    `/nix/store/${hash.replace('1', 'e')}-x`,
    `/nix/store/${hash}-${'x'.repeat(storeNameMaxCharacters + 1)}`,
    `/${'d/'.repeat(3000)}${hash}-x`,
  ];
  for (const text of bad) t.throws(() => parseStorePath(text), invalid, JSON.stringify(text.slice(0, 80)));
  t.throws(() => parseStoreHash(`${hash}x`), invalid);
  t.throws(() => parseStorePathName(`../${hash}-x`), invalid);
});

t.test('the name of a NAR file reads back, and nothing else is one', async (t) => {
  const fileHash = parseSha256('0'.repeat(52));
  for (const compression of ['none', 'xz', 'bzip2', 'zstd', 'br', 'gzip'] as const) {
    t.same(parseNarFileName(narFileName(fileHash, compression)), { fileHash, compression });
  }
  for (const name of [
    '',
    'x.nar',
    `${fileHash}`,
    `${fileHash}.nar.zip`,
    `../${fileHash}.nar`,
    `${'z'.repeat(52)}.nar`,
  ]) {
    t.equal(parseNarFileName(name), undefined, JSON.stringify(name));
  }
});

t.test('nix-cache-info reads as Nix reads it', async (t) => {
  t.same(parseCacheInfo('StoreDir: /gnu/store\nWantMassQuery: 1\nPriority: 30\nOther: x\n'), {
    storeDir: '/gnu/store',
    wantMassQuery: true,
    priority: 30,
  });
  t.same(parseCacheInfo(''), { storeDir: '/nix/store', wantMassQuery: false, priority: 0 });
  const info = { storeDir: '/nix/store', wantMassQuery: false, priority: 41 };
  t.same(parseCacheInfo(printCacheInfo(info)), info);
  const corrupt = { code: 'cache-info-corrupt' };
  t.throws(() => parseCacheInfo('Priority: 1\nStoreDir: nix\n'), { ...corrupt, offset: 12 });
  t.throws(() => parseCacheInfo('Priority: soon\n'), { ...corrupt, offset: 0 });
  t.throws(() => parseCacheInfo('x'.repeat(70_000)), corrupt);
});
