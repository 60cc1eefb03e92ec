/**
 * Closes a pack and serves it, in a process of its own: `packs-process.ts DIR NAR-FILES BYTES-EACH`. Prints what that took as a line of JSON, then
 * waits to be told to end.
 */
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { openCatalog } from '../../catalog/catalog.ts';
import { narFileName } from '../../nar/compression.ts';
import { sha256FromDigest } from '../../nar/hash.ts';
import { makeNarInfo } from '../../nar/narinfo.ts';
import { nix32Encode } from '../../nar/nix32.ts';
import { secretKeyFromSeed } from '../../nar/signature.ts';
import { parseStorePath, type StorePath, storeHashOf, storePathName } from '../../nar/store-path.ts';
import { narFilesOnDisk } from '../../seeder/nar-files.ts';
import { PackCloser } from '../../seeder/pack-closer.ts';
import { PackFiles } from '../../seeder/pack-files.ts';
import { PackSource } from '../../seeder/pack-source.ts';
import { OpenFiles } from '../../swarm/seed/open-files.ts';
import { openSeedServer } from '../../swarm/seed/seed-server.ts';
import { infoDictionary, TorrentHasher } from '../../swarm/torrent/torrent.ts';
import { silentLogger } from '../../web/log.ts';

export interface PacksReport {
  seconds: number;
  cpuSeconds: number;
  loopDelayMaxMs: number;
  loopDelayP99Ms: number;
  /** Beyond what the process had before. */
  memoryBytes: number;
  /** Of the first opening after a start, in which every file is looked at. */
  openMs: number;
  port: number;
  infoBytes: string;
}

const nixStoreDir = '/nix/store';
/** Sources are verified; a random signature has the size of a real one. */
const sig = `cache.example-1:${randomBytes(64).toString('base64')}`;

const [dir = '', count, bytesEach] = process.argv.slice(2);
const catalog = openCatalog(join(dir, 'catalog.sqlite'));
const narFiles = narFilesOnDisk(dir);
const packFiles = await PackFiles.open(join(dir, 'packs'));
await fill(Number(count), Number(bytesEach));
const report = await measure();
console.log(JSON.stringify(report));
process.stdin.once('data', () => process.exit());

async function fill(narFileCount: number, sizeBytes: number): Promise<void> {
  await mkdir(join(dir, 'nar'));
  let before: StorePath | undefined;
  for (let n = 0; n < narFileCount; n++) {
    const path = parseStorePath(`${nixStoreDir}/${nix32Encode(randomBytes(20))}-package-${n}`);
    await add(path, randomBytes(sizeBytes), before);
    before = path;
  }
}

async function add(storePath: StorePath, bytes: Buffer, reference: StorePath | undefined): Promise<void> {
  const fileHash = sha256FromDigest(createHash('sha256').update(bytes).digest());
  const url = `nar/${narFileName(fileHash, 'none')}`;
  await writeFile(join(dir, url), bytes);
  const { mtimeNs } = await stat(join(dir, url), { bigint: true });
  const hasher = new TorrentHasher(bytes.length);
  hasher.write(bytes);
  const { infoHash, pieces } = hasher.finish(narFileName(fileHash, 'none'));
  const sizes = { fileSize: bytes.length, narSize: bytes.length };
  const references = reference === undefined ? [] : [storePathName(reference)];
  const hashes = { fileHash, narHash: fileHash };
  const narInfo = makeNarInfo({
    storePath,
    url,
    compression: 'none',
    ...hashes,
    ...sizes,
    references,
    sigs: [sig],
  });
  const source = `file://${dir}`;
  const location = { source, path: url, sizeBytes: bytes.length, mtimeNs };
  catalog.accept({
    ...{ source, narInfoName: `${storeHashOf(storePath)}.narinfo`, fingerprint: '' },
    narInfo,
    entry: { ...hashes, ...sizes, compression: 'none', infoHash, narInfoHash: infoHash, sigs: [], location },
    filePieces: pieces,
    narPieces: pieces,
  });
}

async function measure(): Promise<PacksReport> {
  const memoryBefore = process.memoryUsage.rss();
  const cpuBefore = process.cpuUsage();
  const startMs = performance.now();
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  let memory = memoryBefore;
  const watch = setInterval(() => {
    memory = Math.max(memory, process.memoryUsage.rss());
  }, 20);
  const closer = await PackCloser.open({
    rules: { sizeBytes: 2 ** 30, ageMs: 0 },
    ...{ catalog, narFiles, packFiles },
    secretKey: secretKeyFromSeed('catalog.example-1', Buffer.alloc(32, 1)),
    nixStoreDir: () => nixStoreDir,
    onClosed() {},
    logger: silentLogger,
  });
  await closer.closeDue();
  await closer.close();
  delay.disable();
  clearInterval(watch);
  const seconds = (performance.now() - startMs) / 1000;
  const { user, system } = process.cpuUsage(cpuBefore);
  const [infoHash] = catalog.packs.list(undefined, 2);
  if (infoHash === undefined) throw new Error('no pack was closed');
  const source = new PackSource({ catalog, narFiles, packFiles, openFiles: new OpenFiles(128) });
  const openStartMs = performance.now();
  const handle = await source.open(infoHash);
  const openMs = performance.now() - openStartMs;
  if (handle === undefined) throw new Error('the pack is not held');
  const info = infoDictionary(handle.torrent).toString('base64');
  await handle.close();
  const { port } = await openSeedServer({ host: '127.0.0.1', port: 0, source });
  return {
    seconds,
    cpuSeconds: (user + system) / 1e6,
    loopDelayMaxMs: delay.max / 1e6,
    loopDelayP99Ms: delay.percentile(99) / 1e6,
    memoryBytes: memory - memoryBefore,
    openMs,
    port,
    infoBytes: info,
  };
}
