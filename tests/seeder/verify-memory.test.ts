import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createBrotliCompress, createGzip, createZstdCompress } from 'node:zlib';
import lzma from 'lzma-native';
import t from 'tap';
import { type Compression, narFileExtension } from '../../nar/compression.ts';
import { sha256FromDigest } from '../../nar/hash.ts';
import { narMagic, narNodeEnd, narRegularStart } from '../../nar/nar-writer.ts';

const run = promisify(execFile);
const child = fileURLToPath(new URL('./memory-child.ts', import.meta.url));
/** Nearly twice what may be taken: whoever holds all of it is found. */
const zerosBytes = 192 * 1024 * 1024;
const grownMaxBytes = 100 * 1024 * 1024;

const dir = await mkdtemp(join(tmpdir(), 'narswarm-memory-'));
t.teardown(() => rm(dir, { recursive: true }));

function* nar(): Generator<Buffer> {
  yield Buffer.concat([narMagic, narRegularStart(zerosBytes, false)]);
  const zeros = Buffer.alloc(1024 * 1024);
  for (let written = 0; written < zerosBytes; written += zeros.length) yield zeros;
  yield narNodeEnd;
}

const hash = createHash('sha256');
let narSize = 0;
for (const chunk of nar()) {
  hash.update(chunk);
  narSize += chunk.length;
}
const narHash = sha256FromDigest(hash.digest());

const compressors = {
  xz: () => lzma.createCompressor({ preset: 0 }),
  zstd: () => createZstdCompress(),
  br: () => createBrotliCompress({ params: { 1: 3 } }),
  gzip: () => createGzip({ level: 1 }),
};

for (const compression of ['xz', 'zstd', 'br', 'gzip'] as const) {
  t.test(`${compression}: 192 MiB of zeros take no more memory than a little NAR`, async (t) => {
    const path = join(dir, `nar${narFileExtension(compression)}`);
    await pipeline(Readable.from(nar()), compressors[compression](), createWriteStream(path));
    t.match(await verify(path, narSize, compression), { end: 'verified' });
    const bomb = await verify(path, 1000, compression);
    t.equal(bomb.end, 'decompression-bomb');
  });
}

t.test('bzip2: the same, of which one block holds 46 MB', { skip: await hasNoBzip2() }, async (t) => {
  const path = join(dir, 'nar.bz2');
  const bzip2 = spawn('bzip2', { stdio: ['pipe', 'pipe', 'inherit'] });
  await Promise.all([
    pipeline(Readable.from(nar()), bzip2.stdin),
    pipeline(bzip2.stdout, createWriteStream(path)),
  ]);
  t.match(await verify(path, narSize, 'bzip2'), { end: 'verified' });
  t.match(await verify(path, 1000, 'bzip2'), { end: 'decompression-bomb' });
});

async function verify(path: string, size: number, compression: Compression): Promise<{ end: string }> {
  const { stdout } = await run(process.execPath, [child, path, narHash, String(size), compression]);
  const result: { end: string; grownBytes: number } = JSON.parse(stdout);
  t.comment(
    `${compression}, NarSize ${size}: ${result.end}, ${(result.grownBytes / 1e6).toFixed(0)} MB more`,
  );
  t.ok(result.grownBytes < grownMaxBytes, `${result.grownBytes} bytes more`);
  return result;
}

async function hasNoBzip2(): Promise<string | false> {
  return run('bzip2', ['--version']).then(
    () => false,
    () => 'no bzip2',
  );
}
