/** A seeder process over a binary cache with NAR files of given sizes, which is the tracker of their swarms. */

import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { parseTorrentInfo } from '../../../catalog/torrentinfo.ts';
import { isCompression, narFileName } from '../../../nar/compression.ts';
import type { Sha256 } from '../../../nar/hash.ts';
import { parseNarInfo } from '../../../nar/narinfo.ts';
import { printPublicKey } from '../../../nar/signature.ts';
import { bencode, parseBencode } from '../../../swarm/bencode.ts';
import { CacheBuilder } from '../cache-builder.ts';
import { type Program, startProgram, untilIngested } from '../program.ts';
import { narOfSize } from '../sized-nar.ts';

/** What a BitTorrent program is given, and what it should end up with. */
export interface Published {
  /** The file in the cache. */
  path: string;
  name: string;
  sizeBytes: number;
  /** As the seeder hands it out, but for the web seed: programs prefer it, and it is peers that are to be seen here. */
  torrent: Buffer;
  magnet: string;
}

/** The part of a seeder's status that counts here. */
export const seederStatus = z.object({ swarm: z.object({ uploadedBytes: z.number() }) });

export class SwarmLab {
  readonly dir: string;
  readonly seeder: Program;
  readonly files: readonly Published[];

  private constructor(dir: string, seeder: Program, files: readonly Published[]) {
    this.dir = dir;
    this.seeder = seeder;
    this.files = files;
  }

  /** `flags` are further ones of `narswarm seeder`. */
  static async open(options: {
    host: string;
    sizes: readonly number[];
    flags?: readonly string[];
  }): Promise<SwarmLab> {
    const { host, sizes, flags = [] } = options;
    const dir = await mkdtemp(join(tmpdir(), 'narswarm-interop-'));
    try {
      const cache = await new CacheBuilder(join(dir, 'cache')).open();
      const narInfoNames: string[] = [];
      for (const [index, sizeBytes] of sizes.entries()) {
        const built = await cache.add({ name: `file-${index}`, ...narOfSize(sizeBytes) });
        narInfoNames.push(built.narInfoName);
      }
      const seeder = await startProgram([
        ...['seeder', '--data', join(dir, 'seeder'), '--source', cache.url],
        ...['--trusted-key', printPublicKey(cache.publicKey)],
        ...['--http', `${host}:0`, '--peers', `${host}:0`, ...flags],
      ]);
      try {
        await untilIngested(seeder, sizes.length);
        const files: Published[] = [];
        for (const name of narInfoNames) files.push(await published(seeder, cache.directory, name));
        return new SwarmLab(dir, seeder, files);
      } catch (error) {
        await seeder.kill();
        throw error;
      }
    } catch (error) {
      await rm(dir, { recursive: true, force: true });
      throw error;
    }
  }

  /** Bytes of blocks that the seeder gave to BitTorrent peers so far. */
  async uploadedBytes(): Promise<number> {
    return seederStatus.parse(await this.seeder.status()).swarm.uploadedBytes;
  }

  async close(): Promise<void> {
    await this.seeder.stop();
    await rm(this.dir, { recursive: true, force: true });
  }
}

/** What a seeder over the directory `cacheDir` says of one of its narinfos. */
export async function published(
  seeder: Program,
  cacheDir: string,
  narInfoName: string,
): Promise<Published & { fileHash: Sha256 }> {
  const text = async (name: string): Promise<string> => (await fetch(`${seeder.url}/${name}`)).text();
  const { fileHash, fileSize, url, compression } = parseNarInfo(await text(narInfoName));
  if (fileHash === undefined || fileSize === undefined || !isCompression(compression))
    throw new Error('the narinfo tells FileHash, FileSize and Compression');
  const { infoHash } = parseTorrentInfo(await text(`${fileHash}.torrentinfo`));
  return {
    fileHash,
    path: join(cacheDir, url),
    name: narFileName(fileHash, compression),
    sizeBytes: fileSize,
    torrent: withoutWebSeeds(await (await fetch(`${seeder.url}/${infoHash}.torrent`)).arrayBuffer()),
    magnet: `magnet:?xt=urn:btih:${infoHash}&tr=${encodeURIComponent(seeder.tracker ?? '')}`,
  };
}

function withoutWebSeeds(torrentFile: ArrayBuffer): Buffer {
  const dictionary = parseBencode(new Uint8Array(torrentFile));
  if (!(dictionary instanceof Map)) throw new Error('a .torrent file is a dictionary');
  dictionary.delete('url-list');
  return bencode(dictionary);
}

const chunkBytes = 1 << 20;

/** Whether two files have the same bytes. */
export async function sameFiles(a: string, b: string): Promise<boolean> {
  const files = [await open(a), await open(b)] as const;
  try {
    const [left, right] = [Buffer.alloc(chunkBytes), Buffer.alloc(chunkBytes)];
    for (let position = 0; ; position += chunkBytes) {
      const first = await files[0].read(left, 0, chunkBytes, position);
      const second = await files[1].read(right, 0, chunkBytes, position);
      if (first.bytesRead !== second.bytesRead || !left.equals(right)) return false;
      if (first.bytesRead < chunkBytes) return true;
    }
  } finally {
    for (const file of files) await file.close();
  }
}
