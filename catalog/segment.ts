/**
 * Segments: immutable files of records, in zstd. Views have the same form. Reading one is bounded in memory, whatever it
 * holds. The rules are in docs/format.md.
 */

import { Readable } from 'node:stream';
import { constants, createZstdCompress, createZstdDecompress } from 'node:zlib';
import { isNarswarmError, NarswarmError } from '../nar/errors.ts';
import { parseSha256, type Sha256 } from '../nar/hash.ts';
import { type FramedRecord, parseRecordLine, recordLineMaxBytes } from './record.ts';

/** The first bytes of what is compressed. */
export const segmentMagic = 'narswarm-segment-1\n';

export interface SegmentLimits {
  /** Records in one file. */
  records: number;
  /** Bytes of all records with their lines, before compression. */
  bytes: number;
}

/** A follower takes a segment whole or not at all: this bounds what it reads again after a break, and its journal. */
export const segmentLimits: Readonly<SegmentLimits> = { records: 65_536, bytes: 64 << 20 };

/** A channel's closure is one file: some 100,000 paths today, a quarter of a gigabyte. */
export const viewLimits: Readonly<SegmentLimits> = { records: 2_097_152, bytes: 4 * 2 ** 30 };

/**
 * 8 MiB: what a reader must keep of what came before. Compression gains next to nothing beyond, and a hostile frame
 * could ask for gigabytes.
 */
const windowLog = 23;
/** Bytes that decompression gives at a time: enough records for one turn, and no more memory than they need. */
const chunkBytes = 256 * 1024;

const extension = '.segment.zst';
const namePattern = /^([0-9a-df-np-sv-z]{52})\.segment\.zst$/;

/** `<SHA-256 of the file>.segment.zst`. */
export function segmentName(sha256: Sha256): string {
  return `${sha256}${extension}`;
}

/** Reads such a name back; `undefined` for any other text. */
export function parseSegmentName(name: string): Sha256 | undefined {
  const [, digits] = namePattern.exec(name) ?? [];
  if (digits === undefined) return undefined;
  try {
    return parseSha256(digits);
  } catch (error) {
    if (isNarswarmError(error, 'hash-invalid')) return undefined;
    throw error;
  }
}

/**
 * The records of a file, in groups as they come. Throws segment-truncated when it ends early, segment-corrupt when it
 * is no segment, and decompression-bomb when it holds more than `limits` allow.
 */
export async function* readSegment(
  file: AsyncIterable<Uint8Array>,
  limits: SegmentLimits = segmentLimits,
): AsyncGenerator<FramedRecord[]> {
  const parser = new SegmentParser(limits);
  const params = { [constants.ZSTD_d_windowLogMax]: windowLog };
  const source = Readable.from(file, { objectMode: false });
  const plain = createZstdDecompress({ chunkSize: chunkBytes, params });
  let sourceError: unknown;
  source.once('error', (error) => {
    sourceError = error;
    plain.destroy(error);
  });
  // What follows the end of the frame is nobody's: it may be an error that comes after all was read.
  plain.on('error', () => undefined);
  source.pipe(plain);
  try {
    for await (const chunk of plain) yield parser.write(chunk as Buffer);
  } catch (error) {
    if (sourceError !== undefined) throw sourceError;
    throw isNarswarmError(error) ? error : zstdError(error);
  } finally {
    source.destroy();
    plain.destroy();
  }
  parser.end();
}

/** A segment file of `framed` records, one after the other as it is read. */
export async function* writeSegment(
  framed: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  options: { level?: number } = {},
): AsyncGenerator<Buffer> {
  const params = {
    [constants.ZSTD_c_compressionLevel]: options.level ?? 3,
    [constants.ZSTD_c_windowLog]: windowLog,
    [constants.ZSTD_c_checksumFlag]: 1,
  };
  const compress = createZstdCompress({ params });
  const source = Readable.from(withMagic(framed), { objectMode: false });
  source.once('error', (error) => compress.destroy(error));
  try {
    for await (const chunk of source.pipe(compress)) yield chunk as Buffer;
  } finally {
    source.destroy();
    compress.destroy();
  }
}

/** Cuts what was decompressed into records. Fed in chunks of any size. */
export class SegmentParser {
  readonly #limits: SegmentLimits;
  #rest: Buffer = Buffer.alloc(0);
  #bytes = 0;
  #records = 0;
  #begun = false;

  constructor(limits: SegmentLimits = segmentLimits) {
    this.#limits = limits;
  }

  /** The records that are whole with this chunk. They lie in the memory of `chunk`, or in a copy. */
  write(chunk: Buffer): FramedRecord[] {
    this.#bytes += chunk.length;
    if (this.#bytes > this.#limits.bytes + segmentMagic.length) throw bomb(`${this.#limits.bytes} bytes`);
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const records: FramedRecord[] = [];
    let at = this.#begun ? 0 : this.#begin(bytes);
    while (this.#begun && at < bytes.length) {
      const record = recordAt(bytes, at);
      if (record === undefined) break;
      this.#records++;
      if (this.#records > this.#limits.records) throw bomb(`${this.#limits.records} records`);
      records.push(record);
      at += record.framed.length;
    }
    this.#rest = bytes.subarray(at);
    return records;
  }

  /** Throws segment-truncated when something is missing. */
  end(): void {
    if (!this.#begun) throw new NarswarmError('segment-truncated', 'a segment ends before it begins');
    if (this.#rest.length > 0) throw new NarswarmError('segment-truncated', 'a segment ends within a record');
  }

  /** Gives where the first record begins. */
  #begin(bytes: Buffer): number {
    const start = bytes.subarray(0, segmentMagic.length).toString('latin1');
    if (!segmentMagic.startsWith(start))
      throw new NarswarmError('segment-corrupt', 'a segment begins with other words');
    if (start.length < segmentMagic.length) return 0;
    this.#begun = true;
    return segmentMagic.length;
  }
}

/** The record that begins at `at`; `undefined` when not all of it is there. */
function recordAt(bytes: Buffer, at: number): FramedRecord | undefined {
  const newline = bytes.indexOf(10, at);
  const lineEnd = newline < 0 ? bytes.length : newline;
  if (lineEnd - at >= recordLineMaxBytes)
    throw new NarswarmError('segment-corrupt', 'the line before a record is too long');
  if (newline < 0) return undefined;
  const { kind, args, bodyBytes } = parseRecordLine(bytes.subarray(at, newline));
  const end = newline + 1 + bodyBytes;
  if (end > bytes.length) return undefined;
  return { kind, args, body: bytes.subarray(newline + 1, end), framed: bytes.subarray(at, end) };
}

async function* withMagic(
  framed: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  yield Buffer.from(segmentMagic);
  // Gathered, as each chunk costs a turn.
  let gathered: Uint8Array[] = [];
  let bytes = 0;
  for await (const record of framed) {
    gathered.push(record);
    bytes += record.length;
    if (bytes < chunkBytes) continue;
    yield Buffer.concat(gathered);
    gathered = [];
    bytes = 0;
  }
  if (bytes > 0) yield Buffer.concat(gathered);
}

function bomb(what: string): NarswarmError {
  return new NarswarmError('decompression-bomb', `a segment of more than ${what}`);
}

function zstdError(cause: unknown): NarswarmError {
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  const truncated = code === 'Z_BUF_ERROR' || code === 'ZSTD_error_srcSize_wrong';
  return new NarswarmError(
    truncated ? 'segment-truncated' : 'segment-corrupt',
    `a segment cannot be decompressed: ${cause instanceof Error ? cause.message : String(cause)}`,
    { cause },
  );
}
