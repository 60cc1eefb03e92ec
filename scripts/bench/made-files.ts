/**
 * NAR files that are made from their number, for catalogs of millions: whole and true to the last byte, but never stored.
 *
 * Each is a NAR in zstd whose blocks are stored, not compressed. The NAR is a directory of files: as many entries of 4 KiB as the size
 * wants, the same in every NAR, then one that holds the number. So every hash is that of the real bytes, and yet costs only the last few KiB:
 * the states of SHA-1 and SHA-256 after the part in common are kept, and go on from there.
 */
import { createHash, type Hash } from 'node:crypto';
import {
  narDirectoryStart,
  narEntryStart,
  narMagic,
  narNodeEnd,
  narPaddingBytes,
  narRegularStart,
} from '../../nar/nar-writer.ts';
import { pieceHashBytes, pieceLengthMinBytes, piecesAim } from '../../swarm/torrent/torrent.ts';

/** Half of all NAR files of cache.nixos.org are smaller. */
const medianBytes = 33_000;
/** Of the logarithm: a tenth has more than 290 KB, one in a hundred more than 1.7 MB, and the mean is 140 KB. */
const sigma = 1.7;
/** One in 250,000 would be larger. All torrents so have pieces of 64 KiB, which makes the pieces in common the same. The rest is for padding. */
const fileMaxBytes = pieceLengthMinBytes * piecesAim - 64;

const entryBytes = 4096;
const frameHeader = Buffer.from([
  ...[0x28, 0xb5, 0x2f, 0xfd],
  // No checksum, no size; a window of 64 KiB.
  ...[0x00, 0x30],
]);
const blockHeaderBytes = 3;
const blockBytes = blockHeaderBytes + entryBytes;
const narStart = Buffer.concat([narMagic, narDirectoryStart]);
const fileStart = Buffer.concat([frameHeader, blockHeader(narStart.length, false), narStart]);

const nameDigits = 8;
const nameAt = blockHeaderBytes + narEntryStart('x'.repeat(nameDigits)).indexOf('x');
/** Contents that do not compress; which of them an entry has follows from its number. */
const blocks = makeBlocks(64);

/** What is put together to make NAR file `number`. */
export interface MadeFile {
  readonly number: number;
  /** Entries of 4 KiB before the last one. */
  readonly entries: number;
  /** The last entry and the end of the directory. */
  readonly last: Buffer;
  /** Bytes of the NAR file and of the NAR in it. */
  readonly fileSize: number;
  readonly narSize: number;
}

export function makeFile(number: number): MadeFile {
  const wanted = madeSize(number);
  const smallest = fileStart.length + blockHeaderBytes + lastEntry(number, 0).length;
  const room = Math.max(0, wanted - smallest);
  const entries = Math.floor(room / blockBytes);
  const last = lastEntry(number, room - entries * blockBytes);
  return {
    number,
    entries,
    last,
    fileSize: fileStart.length + entries * blockBytes + blockHeaderBytes + last.length,
    narSize: narStart.length + entries * entryBytes + last.length,
  };
}

/** `lengthBytes` bytes of the NAR file from `position`, which must lie inside it. */
export function readMadeFile(file: MadeFile, position: number, lengthBytes: number): Buffer {
  const bytes = Buffer.allocUnsafeSlow(lengthBytes);
  const end = position + lengthBytes;
  const put = (part: Buffer, at: number): void => {
    part.copy(bytes, Math.max(0, at - position), Math.max(0, position - at), Math.min(part.length, end - at));
  };
  if (position < fileStart.length) put(fileStart, 0);
  const first = Math.max(0, Math.floor((position - fileStart.length) / blockBytes));
  for (let entry = first; entry < file.entries; entry++) {
    const at = fileStart.length + entry * blockBytes;
    if (at >= end) return bytes;
    put(entryBlock(entry), at);
  }
  const lastAt = fileStart.length + file.entries * blockBytes;
  if (lastAt < end) put(lastBlock(file.last), lastAt);
  return bytes;
}

export interface MadeHashes {
  /** SHA-256. */
  readonly file: Buffer;
  readonly nar: Buffer;
  /** SHA-1 digests of all pieces. */
  readonly filePieces: Buffer;
  readonly narPieces: Buffer;
}

/** The hashes of a made file and of its NAR. Grows by 1 KB for each 4 KiB of the largest file asked for. */
export class MadeHasher {
  readonly #file = new CommonStart(fileStart, (entry) => entryBlock(entry));
  readonly #nar = new CommonStart(narStart, (entry) => entryBlock(entry).subarray(blockHeaderBytes));

  hash({ entries, last }: MadeFile): MadeHashes {
    const [file, filePieces] = this.#file.finish(entries, lastBlock(last));
    const [nar, narPieces] = this.#nar.finish(entries, last);
    return { file, nar, filePieces, narPieces };
  }
}

/** What all NAR files, or all NARs, begin with, and the hashes of it as far as it was wanted. */
class CommonStart {
  readonly #entry: (index: number) => Buffer;
  /** After the start and so many entries: of all the bytes, and of those in the last, unfinished piece. */
  readonly #states: { all: Hash; piece: Hash; pieceFilled: number; pieces: number }[];
  readonly #pieces = Buffer.alloc(piecesAim * pieceHashBytes);

  constructor(start: Buffer, entry: (index: number) => Buffer) {
    this.#entry = entry;
    const all = createHash('sha256').update(start);
    this.#states = [{ all, piece: createHash('sha1').update(start), pieceFilled: start.length, pieces: 0 }];
  }

  /** SHA-256 and pieces of the start, `entries` entries, and `rest`. */
  finish(entries: number, rest: Buffer): [Buffer, Buffer] {
    while (this.#states.length <= entries) this.#grow();
    const state = this.#states[entries];
    if (state === undefined) throw new Error('no such state');
    const all = state.all.copy().update(rest).digest();
    const room = pieceLengthMinBytes - state.pieceFilled;
    const own = [state.piece.copy().update(rest.subarray(0, room)).digest()];
    if (rest.length > room) own.push(createHash('sha1').update(rest.subarray(room)).digest());
    return [all, Buffer.concat([this.#pieces.subarray(0, state.pieces * pieceHashBytes), ...own])];
  }

  #grow(): void {
    const before = this.#states.at(-1);
    if (before === undefined) throw new Error('no state to go on from');
    const bytes = this.#entry(this.#states.length - 1);
    const all = before.all.copy().update(bytes);
    const piece = before.piece.copy();
    const room = pieceLengthMinBytes - before.pieceFilled;
    if (bytes.length < room) {
      piece.update(bytes);
      this.#states.push({ ...before, all, piece, pieceFilled: before.pieceFilled + bytes.length });
      return;
    }
    piece
      .update(bytes.subarray(0, room))
      .digest()
      .copy(this.#pieces, before.pieces * pieceHashBytes);
    const rest = bytes.subarray(room);
    const next = createHash('sha1').update(rest);
    this.#states.push({ all, piece: next, pieceFilled: rest.length, pieces: before.pieces + 1 });
  }
}

/** Bytes that NAR file `number` is to have, about: log-normal. */
function madeSize(number: number): number {
  const normal = Math.sqrt(-2 * Math.log(uniform(number, 1))) * Math.cos(2 * Math.PI * uniform(number, 2));
  return Math.min(fileMaxBytes, Math.round(medianBytes * Math.exp(sigma * normal)));
}

/** Above 0, below 1, and always the same for its arguments: murmur3's last step, twice. */
function uniform(number: number, salt: number): number {
  let x = Math.imul(number, 0x9e3779b1) ^ Math.imul(salt, 0x85ebca6b);
  for (let round = 0; round < 2; round++) {
    x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
    x ^= x >>> 16;
  }
  return ((x >>> 0) + 0.5) / 2 ** 32;
}

function makeBlocks(count: number): Buffer[] {
  // The bytes have to be the same in every process: a hash of a number, not chance.
  const bytes = Buffer.alloc(entryBytes);
  return Array.from({ length: count }, (_none, index) => {
    for (let at = 0; at < entryBytes; at += 32)
      createHash('sha256').update(`made contents ${index} ${at}`).digest().copy(bytes, at);
    const before = Buffer.concat([narEntryStart('x'.repeat(nameDigits)), narRegularStart(0, false)]);
    const contentsBytes = entryBytes - before.length - 2 * narNodeEnd.length;
    return Buffer.concat([
      blockHeader(entryBytes, false),
      entry('x'.repeat(nameDigits), bytes.subarray(0, contentsBytes)),
    ]);
  });
}

/** Entry `index` as a block of zstd: valid until the next call for one with the same contents. */
function entryBlock(index: number): Buffer {
  const block = blocks[index % blocks.length];
  if (block === undefined) throw new Error('no such block');
  block.write(String(index).padStart(nameDigits, '0'), nameAt, 'latin1');
  return block;
}

/** Named so that it comes last; it begins with the number of the NAR file. */
function lastEntry(number: number, moreBytes: number): Buffer {
  const contents = Buffer.alloc(16 + moreBytes);
  contents.writeBigUInt64LE(BigInt(number), 0);
  blocks[number % blocks.length]?.copy(contents, 16, 512);
  return Buffer.concat([entry('number', contents), narNodeEnd]);
}

function entry(name: string, contents: Buffer): Buffer {
  const padding = Buffer.alloc(narPaddingBytes(contents.length));
  return Buffer.concat([
    narEntryStart(name),
    narRegularStart(contents.length, false),
    contents,
    padding,
    narNodeEnd,
    narNodeEnd,
  ]);
}

function lastBlock(last: Buffer): Buffer {
  return Buffer.concat([blockHeader(last.length, true), last]);
}

/** Of a stored block (RFC 8878, 3.1.1.2). */
function blockHeader(lengthBytes: number, last: boolean): Buffer {
  const header = Buffer.alloc(blockHeaderBytes);
  header.writeUIntLE((lengthBytes << 3) | (last ? 1 : 0), 0, blockHeaderBytes);
  return header;
}
