/** Builds signed binary caches in directories from trees in memory, quickly and without Nix. */

import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { brotliCompressSync, constants, gzipSync, zstdCompressSync } from 'node:zlib';
import { printCacheInfo } from '../../nar/cache-info.ts';
import { type Compression, narFileName } from '../../nar/compression.ts';
import { storePathForSource } from '../../nar/content-address.ts';
import { printSha256, type Sha256, sha256FromDigest } from '../../nar/hash.ts';
import {
  narDirectoryStart,
  narEntryStart,
  narMagic,
  narNodeEnd,
  narPaddingBytes,
  narRegularStart,
  narSymlink,
} from '../../nar/nar-writer.ts';
import { makeNarInfo, type NarInfo, type NarInfoValues } from '../../nar/narinfo.ts';
import { nix32Encode } from '../../nar/nix32.ts';
import { type PublicKey, type SecretKey, secretKeyFromSeed, signNarInfo } from '../../nar/signature.ts';
import { parseStorePath, type StorePath, storeHashOf, storePathName } from '../../nar/store-path.ts';
import { bzip2Sync, xzSync } from './compress.ts';

/** A file, `{ link }`, or a directory of them. */
export type Tree = string | Buffer | { link: string } | { [name: string]: Tree };

export const storeDir = '/nix/store';

export function makeNar(tree: Tree): Buffer {
  return Buffer.concat([narMagic, node(tree)]);
}

function node(tree: Tree): Buffer {
  if (typeof tree === 'string' || Buffer.isBuffer(tree)) {
    const bytes = Buffer.from(tree);
    const padding = Buffer.alloc(narPaddingBytes(bytes.length));
    return Buffer.concat([narRegularStart(bytes.length, false), bytes, padding, narNodeEnd]);
  }
  if ('link' in tree && typeof tree.link === 'string') return narSymlink(tree.link);
  const entries = Object.entries(tree).sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const parts = entries.flatMap(([name, child]) => [narEntryStart(name), node(child), narNodeEnd]);
  return Buffer.concat([narDirectoryStart, ...parts, narNodeEnd]);
}

export function compressNar(nar: Buffer, compression: Compression): Buffer {
  switch (compression) {
    case 'none':
      return nar;
    case 'xz':
      return xzSync(nar);
    case 'zstd':
      return zstdCompressSync(nar);
    case 'br':
      // The default quality takes seconds for a megabyte.
      return brotliCompressSync(nar, { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } });
    case 'gzip':
      return gzipSync(nar);
    case 'bzip2':
      return bzip2Sync(nar);
  }
}

export function sha256(bytes: Uint8Array): Sha256 {
  return sha256FromDigest(createHash('sha256').update(bytes).digest());
}

/** A store path with an arbitrary hash that follows from its name. */
export function storePath(name: string): StorePath {
  const digest = createHash('sha1').update(name).digest();
  return parseStorePath(`${storeDir}/${nix32Encode(digest)}-${name}`);
}

/** What is put into a cache; every part can be made wrong before. */
export interface Built {
  storePath: StorePath;
  narInfoName: string;
  nar: Buffer;
  narFile: Buffer;
  narInfo: NarInfo;
}

export interface BuildOptions {
  name: string;
  tree?: Tree;
  compression?: Compression;
  references?: StorePath[];
  /** Makes it content-addressed, and unsigned. */
  contentAddressed?: boolean;
  /** Takes the place of what follows from the tree, and is signed. */
  values?: Partial<NarInfoValues>;
  /** Takes the place of the NAR that follows from the tree. */
  nar?: Buffer;
  /** The NAR file, in place of the compressed NAR. */
  narFile?: Buffer;
}

export class CacheBuilder {
  readonly directory: string;
  readonly secretKey: SecretKey;

  constructor(
    directory: string,
    secretKey: SecretKey = secretKeyFromSeed('cache.test-1', Buffer.alloc(32, 1)),
  ) {
    this.directory = directory;
    this.secretKey = secretKey;
  }

  get publicKey(): PublicKey {
    return this.secretKey.publicKey;
  }

  /** `file://…` */
  get url(): string {
    return `file://${this.directory}`;
  }

  async open(): Promise<this> {
    await this.write('nix-cache-info', printCacheInfo({ storeDir, wantMassQuery: true, priority: 40 }));
    return this;
  }

  build(options: BuildOptions): Built {
    const { name, tree = { data: name }, compression = 'xz', references = [], values = {} } = options;
    const nar = options.nar ?? makeNar(tree);
    const narFile = options.narFile ?? compressNar(nar, compression);
    const [narHash, fileHash] = [sha256(nar), sha256(narFile)];
    const names = references.map(storePathName);
    const contentAddressed = options.contentAddressed === true;
    const path = contentAddressed
      ? storePathForSource({ storeDir, name, narHash, references: names })
      : storePath(name);
    const unsigned = makeNarInfo({
      storePath: path,
      url: `nar/${narFileName(fileHash, compression)}`,
      compression,
      fileHash,
      fileSize: narFile.length,
      narHash,
      narSize: nar.length,
      references: names,
      ...(contentAddressed ? { ca: `fixed:r:${printSha256(narHash)}` } : {}),
      sigs: [],
      ...values,
    });
    const narInfo = contentAddressed ? unsigned : signNarInfo(unsigned, this.secretKey);
    const narInfoName = `${storeHashOf(narInfo.storePath)}.narinfo`;
    return { storePath: narInfo.storePath, narInfoName, nar, narFile, narInfo };
  }

  /** Writes both files. */
  async put(built: Built): Promise<Built> {
    await this.write(built.narInfo.url, built.narFile);
    await this.write(built.narInfoName, built.narInfo.text);
    return built;
  }

  async add(options: BuildOptions): Promise<Built> {
    return this.put(this.build(options));
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  async write(name: string, bytes: string | Buffer): Promise<void> {
    await mkdir(dirname(this.path(name)), { recursive: true });
    await writeFile(this.path(name), bytes);
  }
}

/** The narinfo with lines taken out, by their names. The signature does not cover those for which that makes sense. */
export function withoutLines(text: string, ...names: string[]): string {
  return text
    .split('\n')
    .filter((line) => !names.some((name) => line.startsWith(`${name}:`)))
    .join('\n');
}
