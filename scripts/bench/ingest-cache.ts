/** Directories of signed NAR files for the benchmark of ingest. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, linkSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { SeededRandom } from '../../cli/sample-cache/random.ts';
import { directoryOf, narOf, type Tree, treeAt } from '../../cli/sample-cache/tree.ts';
import { cacheInfoDefaultStoreDir, printCacheInfo } from '../../nar/cache-info.ts';
import { narFileExtension, narFileName } from '../../nar/compression.ts';
import { type Sha256, sha256FromDigest } from '../../nar/hash.ts';
import { narMagic, narNodeEnd, narPaddingBytes, narRegularStart } from '../../nar/nar-writer.ts';
import { makeNarInfo } from '../../nar/narinfo.ts';
import { nix32Encode } from '../../nar/nix32.ts';
import { type SecretKey, signNarInfo } from '../../nar/signature.ts';
import { parseStorePath, storeHashOf } from '../../nar/store-path.ts';

/** Where the contents come from: what any system has, programs and text. */
const contentDirs = ['/usr/lib', '/usr/share', join(import.meta.dirname, '../../node_modules')];
/** A file longer than this is left out, so that no NAR gets much longer than it should. */
const fileMaxBytes = 64 * 1024 * 1024;
/** The NAR files are there under so many URLs: compressing takes a hundred times as long as reading. */
export const copies = 8;
const sigma = 2;
/** Of the 33 KB of the median NAR file, and of what xz makes of this content. */
export const medianBytes = 128 * 1024;
const narMaxBytes = 64 * 1024 * 1024;

export interface BenchCache {
  dir: string;
  narFiles: number;
  narBytes: number;
  fileBytes: number;
}

/** Sizes of NARs that have `totalBytes` together: log-normal, or all of `eachBytes`. */
export function planSizes(totalBytes: number, eachBytes?: number): number[] {
  const random = new SeededRandom('bench-ingest');
  const sizes: number[] = [];
  for (let left = totalBytes; left > 0; left -= sizes.at(-1) ?? left) {
    const wanted = eachBytes ?? Math.min(narMaxBytes, Math.round(random.logNormal(medianBytes, sigma)));
    sizes.push(Math.min(left, wanted));
  }
  return sizes;
}

/** NARs of real files, in `dir`/plain, for `compressCache`. */
export async function makePlainNars(dir: string, sizes: readonly number[]): Promise<void> {
  await mkdir(dir, { recursive: true });
  const files = contentFiles();
  for (const [index, size] of sizes.entries()) {
    const entries: [string, Tree][] = [];
    for (let bytes = 0; bytes < size; ) {
      const path = files.next().value;
      if (path === undefined) throw new Error(`${contentDirs.join(', ')} do not hold enough`);
      const tree = await treeAt(path);
      if (tree.kind !== 'file') continue;
      const left = size - bytes;
      // The last one is cut off, so that a NAR is as long as it should be.
      entries.push([`file-${entries.length}`, tree.sizeBytes <= left ? tree : cut(path, left)]);
      bytes += Math.max(1, Math.min(tree.sizeBytes, left));
    }
    const chunks: Buffer[] = [];
    for await (const chunk of narOf(directoryOf(entries))) chunks.push(chunk);
    await writeFile(join(dir, `${index}.nar`), Buffer.concat(chunks));
  }
}

/** A cache of the NARs in `plainDir`, compressed as Hydra does, each file under several URLs. */
export async function compressCache(
  plainDir: string,
  dir: string,
  compression: 'xz' | 'zstd',
  secretKey: SecretKey,
): Promise<BenchCache> {
  await begin(dir);
  const program = compression === 'xz' ? 'xz -6' : 'zstd -q -3';
  const names = (await readdir(plainDir)).filter((name) => name.endsWith('.nar'));
  const script = `cd '${plainDir}' && ls *.nar | xargs -P ${availableParallelism()} -n 1 ${program} -k`;
  await shell(script);
  const cache: BenchCache = { dir, narFiles: 0, narBytes: 0, fileBytes: 0 };
  for (const name of names) {
    const made = join(plainDir, `${name}${compression === 'xz' ? '.xz' : '.zst'}`);
    const narHash = await hashOf(join(plainDir, name));
    const fileHash = await hashOf(made);
    const narSize = statSync(join(plainDir, name)).size;
    const fileSize = statSync(made).size;
    for (let copy = 0; copy < copies; copy++) {
      const url = `nar/${copy}-${fileHash}${narFileExtension(compression)}`;
      linkSync(made, join(dir, url));
      const values = { compression, fileHash, fileSize, narHash, narSize };
      writeNarInfo(dir, `${name}-${copy}`, url, values, secretKey);
      cache.narFiles++;
      cache.narBytes += narSize;
      cache.fileBytes += fileSize;
    }
    await rm(made);
  }
  return cache;
}

/** Many small NAR files with Compression none, no two alike. */
export async function makeSmallCache(
  dir: string,
  narFiles: number,
  contentBytes: number,
  secretKey: SecretKey,
): Promise<BenchCache & { lastNar: Buffer }> {
  await begin(dir);
  const content = Buffer.alloc(contentBytes, 'a small file of a store path. ');
  const head = Buffer.concat([narMagic, narRegularStart(contentBytes, false)]);
  const nar = Buffer.concat([head, content, Buffer.alloc(narPaddingBytes(contentBytes)), narNodeEnd]);
  const bytes = narFiles * nar.length;
  for (let index = 0; index < narFiles; index++) {
    nar.writeUInt32LE(index, head.length);
    const narHash = sha256FromDigest(createHash('sha256').update(nar).digest());
    const url = `nar/${narFileName(narHash, 'none')}`;
    writeFileSync(join(dir, url), nar);
    const size = nar.length;
    const values = {
      compression: 'none',
      fileHash: narHash,
      fileSize: size,
      narHash,
      narSize: size,
    } as const;
    writeNarInfo(dir, `small-${index}`, url, values, secretKey);
  }
  return { dir, narFiles, narBytes: bytes, fileBytes: bytes, lastNar: nar };
}

async function begin(dir: string): Promise<void> {
  await mkdir(join(dir, 'nar'), { recursive: true });
  const info = { storeDir: cacheInfoDefaultStoreDir, wantMassQuery: true, priority: 40 };
  await writeFile(join(dir, 'nix-cache-info'), printCacheInfo(info));
}

interface Sizes {
  compression: 'none' | 'xz' | 'zstd';
  fileHash: Sha256;
  fileSize: number;
  narHash: Sha256;
  narSize: number;
}

function writeNarInfo(dir: string, name: string, url: string, sizes: Sizes, secretKey: SecretKey): void {
  const hash = nix32Encode(createHash('sha1').update(name).digest());
  const storePath = parseStorePath(`${cacheInfoDefaultStoreDir}/${hash}-${name}`);
  const unsigned = makeNarInfo({ storePath, url, ...sizes, references: [], sigs: [] });
  writeFileSync(join(dir, `${storeHashOf(storePath)}.narinfo`), signNarInfo(unsigned, secretKey).text);
}

/** Every file of the content directories, one after the other from each, so that text and programs alternate. */
function* contentFiles(): Generator<string> {
  const walks = contentDirs.map(filesBelow);
  while (walks.length > 0) {
    for (const walk of [...walks]) {
      const next = walk.next();
      if (next.done === true) walks.splice(walks.indexOf(walk), 1);
      else yield next.value;
    }
  }
}

function* filesBelow(dir: string): Generator<string> {
  let entries: ReturnType<typeof list>;
  try {
    entries = list(dir);
  } catch {
    return;
  }
  for (const entry of entries) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) yield* filesBelow(path);
    else if (entry.isFile() && statSync(path).size <= fileMaxBytes) yield path;
  }
}

function list(dir: string) {
  return readdirSync(dir, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
}

function cut(path: string, sizeBytes: number): Tree {
  return {
    kind: 'file',
    sizeBytes,
    executable: false,
    read: () => createReadStream(path, { end: sizeBytes - 1 }),
  };
}

async function hashOf(path: string): Promise<Sha256> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return sha256FromDigest(hash.digest());
}

/** Throws with what the script said when it fails. */
export async function shell(script: string): Promise<void> {
  const child = spawn('sh', ['-c', script], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(0, 1000);
  });
  const code = await new Promise((resolve) => child.once('close', resolve));
  if (code !== 0) throw new Error(`sh ended with ${code}: ${said}`);
}
