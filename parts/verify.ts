/**
 * The one pass over a NAR file: FileHash, FileSize, decompression, grammar, NarHash, NarSize and both canonical torrents.
 * Reads synchronously: it runs on worker threads, which have nothing else to do.
 */

import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { type Compression, narFileName } from '../nar/compression.ts';
import { type ErrorCode, isNarswarmError, NarswarmError } from '../nar/errors.ts';
import { type Sha256, sha256FromDigest } from '../nar/hash.ts';
import { NarReader } from '../nar/nar-reader.ts';
import { errorCode } from '../store/disk-error.ts';
import { sameVersion, versionIn, versionOfSync } from '../store/file-version.ts';
import { type Torrent, TorrentHasher } from '../swarm/torrent/torrent.ts';
import { decompress } from './decompress.ts';
import type { XzShell } from './xz-shell.ts';

/** Bytes read at once. */
export const verifyReadBytes = 256 * 1024;

/**
 * So far past NarSize a NAR is followed, to tell one whose NarSize is wrong from a decompression bomb. Nothing past
 * NarSize is hashed.
 */
export const verifySlackBytes = 1024 * 1024;

export interface VerifyJob {
  /** Of the file on disk. */
  path: string;
  compression: Compression;
  /** From the narinfo, where it has them. */
  fileHash?: Sha256 | undefined;
  fileSize?: number | undefined;
  narHash: Sha256;
  narSize: number;
}

export interface VerifiedNarFile {
  fileHash: Sha256;
  fileSize: number;
  /** Modification time when it was opened, in nanoseconds. */
  mtimeNs: bigint;
  inode: bigint;
  /** Torrent of the NAR file. */
  file: Torrent;
  /** Torrent of the NAR; the same one with Compression none. */
  nar: Torrent;
}

export interface VerifyOptions {
  signal?: AbortSignal | undefined;
  /** Of whoever verifies many, one after the other. */
  xzShell?: XzShell;
}

/**
 * Resolves when every check holds. Throws the reason to refuse the file: `nar-file-missing`, `file-size-mismatch`,
 * `file-hash-mismatch`, `nar-size-mismatch`, `nar-hash-mismatch`, `nar-corrupt`, `nar-truncated`, `decompression-failed`,
 * `decompression-bomb`, or `torrent-invalid` when it is too large for a torrent. No reason, but a matter of trying again:
 * `store-failed`, `verify-crashed`, `aborted`, and `not-held` when the file changed while it was read.
 */
export async function verifyNarFile(
  job: VerifyJob,
  { signal, xzShell }: VerifyOptions = {},
): Promise<VerifiedNarFile> {
  const fd = openFile(job.path);
  try {
    const before = fstatSync(fd, { bigint: true });
    if (!before.isFile()) throw new NarswarmError('nar-file-missing', 'the URL does not name a file');
    // By its path: another file may have taken the place of the one that was read.
    const unchanged = () => sameVersion(versionOfSync(job.path), versionIn(before));
    const verified = await new Pass(job, fd, Number(before.size), signal).run(xzShell).catch((error) => {
      // What is wrong with a file that is being written says nothing about it.
      throw isNarswarmError(error) && !noVerdict.has(error.code) && !unchanged() ? changed() : error;
    });
    if (!unchanged()) throw changed();
    return { ...verified, mtimeNs: before.mtimeNs, inode: before.ino };
  } finally {
    closeSync(fd);
  }
}

/** What says nothing about the file. */
const noVerdict: ReadonlySet<ErrorCode> = new Set(['not-held', 'store-failed', 'verify-crashed', 'aborted']);

class Pass {
  readonly #job: VerifyJob;
  readonly #fd: number;
  readonly #sizeBytes: number;
  readonly #signal: AbortSignal | undefined;
  readonly #buffer: Buffer;
  #position = 0;
  readonly #fileHasher = createHash('sha256');
  readonly #fileTorrent: TorrentHasher;
  readonly #nar: NarCheck;

  constructor(job: VerifyJob, fd: number, sizeBytes: number, signal: AbortSignal | undefined) {
    checkEqual('file-size-mismatch', 'FileSize', job.fileSize ?? sizeBytes, sizeBytes);
    if (sizeBytes === 0) {
      throw new NarswarmError('nar-truncated', 'the NAR file is empty', { offset: 0 });
    }
    this.#job = job;
    this.#fd = fd;
    this.#sizeBytes = sizeBytes;
    this.#signal = signal;
    this.#buffer = Buffer.allocUnsafeSlow(Math.min(verifyReadBytes, sizeBytes));
    this.#fileTorrent = new TorrentHasher(sizeBytes);
    this.#nar = new NarCheck(job.narSize, job.compression !== 'none');
  }

  async run(xzShell: XzShell | undefined): Promise<Omit<VerifiedNarFile, 'mtimeNs' | 'inode'>> {
    const { compression, narSize, narHash } = this.#job;
    let refusal: unknown;
    try {
      const chunks = decompress(compression, this.#chunks(), {
        expectedBytes: narSize,
        maxBytes: compression === 'none' ? this.#sizeBytes : narSize + verifySlackBytes,
        ...(xzShell &&
          this.#mayBeReadTwice() && {
            xz: { shell: xzShell, path: this.#job.path, inputBytes: this.#sizeBytes },
          }),
        ...(this.#signal === undefined ? {} : { signal: this.#signal }),
      });
      for await (const chunk of chunks) this.#nar.write(chunk);
      this.#nar.end();
    } catch (error) {
      if (!isNarswarmError(error) || noVerdict.has(error.code)) throw error;
      refusal = error;
    }
    // Bytes that are not those of FileHash explain whatever else is wrong with them.
    if (refusal === undefined || this.#job.fileHash !== undefined) {
      for await (const _ of this.#chunks());
      const hash = sha256FromDigest(this.#fileHasher.digest());
      checkEqual('file-hash-mismatch', 'FileHash', this.#job.fileHash ?? hash, hash);
      if (refusal === undefined) {
        // With Compression none the NAR was hashed as the file.
        const narHashRead = this.#nar.hash() ?? hash;
        checkEqual('nar-hash-mismatch', 'NarHash', narHash, narHashRead);
        const file = this.#fileTorrent.finish(narFileName(hash, compression));
        const nar = this.#nar.torrent(narFileName(narHashRead, 'none')) ?? file;
        return { fileHash: hash, fileSize: this.#sizeBytes, file, nar };
      }
    }
    throw refusal;
  }

  /**
   * Whether `xz` may read the file beside us. With the FileHash of a narinfo both may be held against it: what we read has that hash, and what
   * `xz` read gave a NAR of that NarHash. Without it only the same bytes will do.
   */
  #mayBeReadTwice(): boolean {
    return this.#job.fileHash !== undefined && !this.#job.path.includes('\n');
  }

  /** The rest of the file, hashed as it is read. Each chunk is valid until the next; a second call goes on where the first stopped. */
  async *#chunks(): AsyncGenerator<Buffer> {
    while (this.#position < this.#sizeBytes) {
      // The turn in which an abort arrives.
      if (this.#position > 0) await setImmediate();
      if (this.#signal?.aborted) throw new NarswarmError('aborted', 'verifying was given up');
      const wanted = Math.min(this.#buffer.length, this.#sizeBytes - this.#position);
      const bytesRead = readChunk(this.#fd, this.#buffer, wanted, this.#position);
      if (bytesRead === 0) throw changed();
      this.#position += bytesRead;
      const chunk = this.#buffer.subarray(0, bytesRead);
      this.#fileHasher.update(chunk);
      this.#fileTorrent.write(chunk);
      yield chunk;
    }
  }
}

/** Checks a NAR as it comes. */
class NarCheck {
  readonly #sizeBytes: number;
  readonly #reader = new NarReader();
  /** `undefined` when the NAR file is the NAR, and its hashes are made elsewhere. */
  readonly #hashers: { hash: ReturnType<typeof createHash>; torrent: TorrentHasher } | undefined;
  #seenBytes = 0;

  constructor(sizeBytes: number, compressed: boolean) {
    this.#sizeBytes = sizeBytes;
    this.#hashers = compressed
      ? { hash: createHash('sha256'), torrent: new TorrentHasher(sizeBytes) }
      : undefined;
  }

  write(chunk: Buffer): void {
    const within = chunk.subarray(0, Math.max(0, this.#sizeBytes - this.#seenBytes));
    this.#seenBytes += chunk.length;
    this.#reader.write(chunk);
    this.#hashers?.hash.update(within);
    this.#hashers?.torrent.write(within);
  }

  end(): void {
    this.#reader.end();
    checkEqual('nar-size-mismatch', 'NarSize', this.#sizeBytes, this.#seenBytes);
  }

  hash(): Sha256 | undefined {
    return this.#hashers && sha256FromDigest(this.#hashers.hash.digest());
  }

  torrent(name: string): Torrent | undefined {
    return this.#hashers?.torrent.finish(name);
  }
}

function openFile(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (cause) {
    const missing = ['ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG'].includes(errorCode(cause) ?? '');
    throw new NarswarmError(
      missing ? 'nar-file-missing' : 'store-failed',
      `the NAR file cannot be opened: ${errorCode(cause)}`,
      { cause },
    );
  }
}

function readChunk(fd: number, buffer: Buffer, length: number, position: number): number {
  try {
    return readSync(fd, buffer, 0, length, position);
  } catch (cause) {
    throw new NarswarmError('store-failed', `the NAR file cannot be read: ${errorCode(cause)}`, { cause });
  }
}

function checkEqual<T extends number | string>(code: ErrorCode, name: string, said: T, is: T): void {
  if (said !== is) throw new NarswarmError(code, `${name} is ${said}, but the bytes have ${is}`);
}

function changed(): NarswarmError {
  return new NarswarmError('not-held', 'the NAR file changed while it was read');
}
