/** Writes store paths into a directory that is a binary cache: a NAR file and a signed narinfo each. */

import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { cacheInfoDefaultStoreDir, printCacheInfo } from '../../nar/cache-info.ts';
import { narFileName } from '../../nar/compression.ts';
import { storePathForSource } from '../../nar/content-address.ts';
import { printSha256, sha256FromDigest } from '../../nar/hash.ts';
import { makeNarInfo, printNarInfo } from '../../nar/narinfo.ts';
import { type SecretKey, signNarInfo } from '../../nar/signature.ts';
import { type StorePath, storeHashOf, storePathName } from '../../nar/store-path.ts';
import { compress, type SampleCompression } from './compress.ts';

/** After cache.nixos.org (40): a sample is for trying things out. */
const priority = 50;

export interface WrittenPath {
  storePath: StorePath;
  narBytes: number;
  fileBytes: number;
}

export class CacheWriter {
  readonly #dir: string;
  readonly #compression: SampleCompression;
  readonly #secretKey: SecretKey;
  #parts = 0;

  constructor(dir: string, compression: SampleCompression, secretKey: SecretKey) {
    this.#dir = dir;
    this.#compression = compression;
    this.#secretKey = secretKey;
  }

  async begin(): Promise<void> {
    await mkdir(join(this.#dir, 'nar'), { recursive: true });
  }

  /** The path is content-addressed (`fixed:r:sha256`), as `nix store add-path` makes them. */
  async write(path: {
    name: string;
    references: readonly StorePath[];
    nar: AsyncIterable<Buffer>;
    signal: AbortSignal;
  }): Promise<WrittenPath> {
    const part = join(this.#dir, 'nar', `.part-${this.#parts++}`);
    try {
      const { narHash, narBytes, fileHash, fileBytes } = await this.#writeNarFile(
        path.nar,
        part,
        path.signal,
      );
      const fileName = narFileName(fileHash, this.#compression);
      await rename(part, join(this.#dir, 'nar', fileName));
      const references = [...new Set(path.references.map(storePathName))].sort();
      const storePath = storePathForSource({
        storeDir: cacheInfoDefaultStoreDir,
        name: path.name,
        narHash,
        references,
      });
      const narInfo = makeNarInfo({
        storePath,
        url: `nar/${fileName}`,
        compression: this.#compression,
        fileHash,
        fileSize: fileBytes,
        narHash,
        narSize: narBytes,
        references,
        sigs: [],
        ca: `fixed:r:${printSha256(narHash)}`,
      });
      const text = printNarInfo(signNarInfo(narInfo, this.#secretKey));
      await writeFile(join(this.#dir, `${storeHashOf(storePath)}.narinfo`), text);
      return { storePath, narBytes, fileBytes };
    } finally {
      await rm(part, { force: true });
    }
  }

  /** Makes the directory a cache: last, so that half a cache is none. */
  async finish(): Promise<void> {
    const text = printCacheInfo({ storeDir: cacheInfoDefaultStoreDir, wantMassQuery: true, priority });
    await writeFile(join(this.#dir, 'nix-cache-info'), text);
  }

  async #writeNarFile(nar: AsyncIterable<Buffer>, file: string, signal: AbortSignal) {
    const narCount = new HashedCount();
    const fileCount = new HashedCount();
    await pipeline(
      nar,
      (chunks: AsyncIterable<Buffer>) => narCount.through(chunks),
      (chunks: AsyncIterable<Buffer>) => compress(this.#compression, chunks),
      (chunks: AsyncIterable<Buffer>) => fileCount.through(chunks),
      createWriteStream(file),
      { signal },
    );
    return {
      narHash: narCount.hash(),
      narBytes: narCount.bytes,
      fileHash: fileCount.hash(),
      fileBytes: fileCount.bytes,
    };
  }
}

class HashedCount {
  bytes = 0;
  readonly #hash = createHash('sha256');

  async *through(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of chunks) {
      this.#hash.update(chunk);
      this.bytes += chunk.length;
      yield chunk;
    }
  }

  hash() {
    return sha256FromDigest(this.#hash.digest());
  }
}
