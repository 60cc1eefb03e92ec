/**
 * Many files that are one torrent, read where they lie: a map from offsets to files. What is not there any more makes the pieces that
 * overlap it missing; the rest is served.
 */

import { setImmediate } from 'node:timers/promises';
import { isNarswarmError, NarswarmError } from '../../nar/errors.ts';
import { pieceCount, type Torrent } from '../torrent/torrent.ts';
import { fullBitfield } from '../wire/wire-encode.ts';
import type { OpenFiles, ReadableFile } from './open-files.ts';
import type { HeldPieces, SeedHandle } from './open-torrents.ts';

export interface JoinedPart {
  /** Of the file in the torrent. */
  readonly offset: number;
  readonly sizeBytes: number;
  /** Names the file among all. */
  readonly key: string;
  /** Throws `not-held` when it is gone or another one. Missing where that is known already. */
  readonly open?: () => Promise<ReadableFile>;
}

export interface JoinedFiles {
  readonly torrent: Torrent;
  /** Some parts that follow each other, the first being the one that holds byte `from`; none of them begins at `to` or after it. */
  parts(from: number, to: number): readonly JoinedPart[];
}

/** Files that are looked at or read at once for one purpose: enough to hide the disk's latency. */
const atOnce = 8;

/**
 * Which pieces are there: every file is opened once, in turns. `undefined` when all are. Throws what opening throws apart from `not-held`.
 */
export async function heldPieces(files: JoinedFiles): Promise<HeldPieces | undefined> {
  const { torrent } = files;
  let bits: Buffer | undefined;
  for (let at = 0; at < torrent.length; ) {
    const parts = partsFrom(files, at, torrent.length);
    for (let first = 0; first < parts.length; first += atOnce) {
      const some = parts.slice(first, first + atOnce);
      const held = await Promise.all(some.map(isHeld));
      for (const [index, part] of some.entries()) {
        if (held[index]) continue;
        bits ??= fullBitfield(pieceCount(torrent));
        clear(bits, torrent, part);
      }
    }
    at = endOf(parts.at(-1)) ?? torrent.length;
    await setImmediate();
  }
  return bits && new FixedPieces(bits);
}

/** For a seed server. `close`: called once, with the handle. */
export function joinedHandle(
  files: JoinedFiles,
  pieces: HeldPieces | undefined,
  openFiles: OpenFiles,
  close: () => Promise<void>,
): SeedHandle {
  return {
    torrent: files.torrent,
    ...(pieces && { pieces }),
    read: (position, lengthBytes, memory = Buffer.allocUnsafeSlow(lengthBytes)) =>
      readJoined(files, openFiles, position, memory.subarray(0, lengthBytes)),
    close,
  };
}

/** Fills `bytes` from `position` on. Throws `not-held` when a file is gone or another one. */
async function readJoined(
  files: JoinedFiles,
  openFiles: OpenFiles,
  position: number,
  bytes: Buffer,
): Promise<Buffer> {
  const to = position + bytes.length;
  for (let at = position; at < to; ) {
    const parts = partsFrom(files, at, to);
    for (let first = 0; first < parts.length; first += atOnce) {
      const reads = parts.slice(first, first + atOnce).map(async (part) => {
        const start = Math.max(part.offset, at);
        const end = Math.min(part.offset + part.sizeBytes, to);
        const { key, open } = part;
        // It may be open still: what was revoked is read by nobody from then on.
        if (open === undefined) throw new NarswarmError('not-held', `${key} is gone`);
        const read = await openFiles.read(key, open, start - part.offset, end - start);
        read.copy(bytes, start - position);
      });
      await allOf(reads);
    }
    at = endOf(parts.at(-1)) ?? to;
  }
  return bytes;
}

/** Throws the first error once all have ended: nobody goes on reading for a read that failed. */
async function allOf(reads: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(reads)) if (result.status === 'rejected') throw result.reason;
}

function partsFrom(files: JoinedFiles, from: number, to: number): readonly JoinedPart[] {
  const parts = files.parts(from, to);
  const [first] = parts;
  // Bytes that belong to no file would be sent as whatever lay in memory.
  let next = from;
  for (const { offset, sizeBytes } of parts) {
    if (offset > next || (offset < next && next !== from)) throw gap(files.torrent, next);
    next = offset + sizeBytes;
  }
  if (first === undefined || next <= from) throw gap(files.torrent, from);
  return parts;
}

function gap({ name }: Torrent, at: number): NarswarmError {
  return new NarswarmError('catalog-corrupt', `no file of ${name} holds byte ${at}`);
}

async function isHeld({ open }: JoinedPart): Promise<boolean> {
  if (open === undefined) return false;
  try {
    const file = await open();
    await file.close();
    return true;
  } catch (error) {
    if (isNarswarmError(error, 'not-held')) return false;
    throw error;
  }
}

function endOf(part: JoinedPart | undefined): number | undefined {
  return part && part.offset + part.sizeBytes;
}

function clear(bits: Buffer, { pieceLength }: Torrent, { offset, sizeBytes }: JoinedPart): void {
  const last = Math.floor((offset + sizeBytes - 1) / pieceLength);
  for (let index = Math.floor(offset / pieceLength); index <= last; index++)
    bits[index >> 3] = (bits[index >> 3] ?? 0) & ~(0x80 >> (index & 7));
}

/** Pieces that neither come nor go while the torrent is open. */
class FixedPieces implements HeldPieces {
  readonly count: number;
  readonly #bits: Buffer;

  constructor(bits: Buffer) {
    this.#bits = bits;
    let count = 0;
    for (const byte of bits) for (let rest = byte; rest > 0; rest &= rest - 1) count++;
    this.count = count;
  }

  has(index: number): boolean {
    return ((this.#bits[index >> 3] ?? 0) & (0x80 >> (index & 7))) !== 0;
  }

  bits(): Buffer {
    return this.#bits;
  }

  watch(): () => void {
    return () => {};
  }
}
