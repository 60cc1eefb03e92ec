/**
 * A file in which what was given out is noted as it goes, all of one turn of the event loop in one write: that takes half of what rows in
 * a table take and on a disk a fifth, and outlives a kill as they do. It only grows until it is emptied.
 *
 * After its first line there is a frame for each write: 8 hexadecimal digits with the bytes of its records, 8 with their CRC-32, and a newline between
 * and after them. A record is a line of JSON and the text of the narinfo. What follows the last whole frame was not promised to anybody:
 * a kill in the middle of a write, or a disk that was full. A power cut may leave zeros there.
 */

import { closeSync, constants, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import type { StoreHash } from '../../nar/store-path.ts';
import { diskError } from '../../store/disk-error.ts';

/** With the version of the format: a file that begins otherwise is begun anew. */
const firstLine = 'narswarm given 1\n';
const frameHeadBytes = 18;

/** Made once: the narinfos of one turn, of 25 connections. */
const usualBytes = 128 * 1024;

export interface GivenRecord {
  readonly storeHash: StoreHash;
  readonly urlKey: string;
  readonly origin: string;
  readonly narUrl: string;
  /** Of the narinfo. */
  readonly text: string;
  /** In microseconds since 1970. */
  readonly used: number;
  /** `isNamedByHash` of the URL. */
  readonly named: boolean;
}

/** Of a record in the file. */
export interface Place {
  readonly at: number;
  readonly bytes: number;
}

export type NotedRecord = Omit<GivenRecord, 'text'> & Place;

export class GivenJournal {
  readonly #file: number;
  readonly #buffer = Buffer.allocUnsafe(usualBytes);
  /** Of the last whole frame. */
  #end = firstLine.length;
  /** What it held when it was opened, in this order. */
  readonly noted: readonly NotedRecord[];

  /** Throws store-failed. */
  constructor(path: string) {
    try {
      this.#file = openSync(path, constants.O_RDWR | constants.O_CREAT);
    } catch (cause) {
      throw diskError(`open ${path}`, cause);
    }
    try {
      this.noted = this.#readAll();
      if (this.noted.length === 0) this.#begin();
      else ftruncateSync(this.#file, this.#end);
    } catch (cause) {
      closeSync(this.#file);
      throw diskError(`read ${path}`, cause);
    }
  }

  /** Bytes of the file. */
  get bytes(): number {
    return this.#end;
  }

  /** Where each of them is. Throws store-failed, and then none is. */
  append(records: readonly GivenRecord[]): Place[] {
    const sizes = records.map(({ text }) => Buffer.byteLength(text));
    const heads = records.map((record, index) => headOf(record, sizes[index] ?? 0));
    const mostBytes =
      frameHeadBytes + sum(sizes) + heads.reduce((bytes, { length }) => bytes + 3 * length, 0);
    const buffer = mostBytes <= usualBytes ? this.#buffer : Buffer.allocUnsafe(mostBytes);
    const places: Place[] = [];
    let end = frameHeadBytes;
    for (const [index, { text }] of records.entries()) {
      const start = end;
      end += buffer.write(heads[index] ?? '', end);
      end += buffer.write(text, end, sizes[index] === text.length ? 'latin1' : 'utf8');
      places.push({ at: this.#end + start, bytes: end - start });
    }
    const frame = buffer.subarray(0, end);
    frame.write(frameHead(end - frameHeadBytes, crc32(frame.subarray(frameHeadBytes))), 'latin1');
    this.#write(frame);
    this.#end += end;
    return places;
  }

  /** `undefined` when it cannot be read. */
  read({ at, bytes }: Place): GivenRecord | undefined {
    try {
      const buffer = this.#read(at, bytes);
      const headBytes = buffer.indexOf(10) + 1;
      const { head } = readHead(buffer.toString('utf8', 0, headBytes)) ?? {};
      return head && { ...head, text: buffer.toString('utf8', headBytes) };
    } catch {
      return undefined;
    }
  }

  /** Whoever asks has everything in another place. Throws store-failed. */
  clear(): void {
    try {
      // Its first line stays: a full disk may have no room to write it anew, and without it what is noted next would not be read.
      ftruncateSync(this.#file, firstLine.length);
      this.#end = firstLine.length;
    } catch (cause) {
      throw diskError('empty what was noted as given out', cause);
    }
  }

  close(): void {
    closeSync(this.#file);
  }

  #begin(): void {
    ftruncateSync(this.#file, 0);
    writeSync(this.#file, firstLine, 0);
    this.#end = firstLine.length;
  }

  #write(frame: Buffer): void {
    try {
      for (let done = 0; done < frame.length; )
        done += writeSync(this.#file, frame, done, frame.length - done, this.#end + done);
    } catch (cause) {
      this.#forgetTail();
      throw diskError('note what is given out', cause);
    }
  }

  /** The beginning of a frame that was not written whole would be overwritten; what it has beyond the next is to be no frame. */
  #forgetTail(): void {
    try {
      ftruncateSync(this.#file, this.#end);
    } catch {
      // No checksum fits it.
    }
  }

  #readAll(): NotedRecord[] {
    const { size } = fstatSync(this.#file);
    const noted: NotedRecord[] = [];
    if (size < firstLine.length || this.#read(0, firstLine.length).toString('latin1') !== firstLine)
      return noted;
    while (this.#end + frameHeadBytes <= size) {
      const head = this.#read(this.#end, frameHeadBytes).toString('latin1');
      const bytes = Number.parseInt(head, 16);
      const at = this.#end + frameHeadBytes;
      if (!(bytes > 0) || at + bytes > size) break;
      const records = this.#read(at, bytes);
      if (head !== frameHead(bytes, crc32(records))) break;
      noted.push(...readRecords(records, at));
      this.#end = at + bytes;
    }
    return noted;
  }

  #read(at: number, bytes: number): Buffer {
    const buffer = Buffer.allocUnsafe(bytes);
    let done = 0;
    while (done < bytes) {
      const read = readSync(this.#file, buffer, done, bytes - done, at + done);
      if (read === 0) throw new Error('the file is shorter than it was');
      done += read;
    }
    return buffer;
  }
}

function frameHead(bytes: number, checksum: number): string {
  const hex = (value: number): string => value.toString(16).padStart(8, '0');
  return `${hex(bytes)} ${hex(checksum)}\n`;
}

function headOf({ storeHash, urlKey, origin, narUrl, used, named }: GivenRecord, textBytes: number): string {
  return `${JSON.stringify([textBytes, used, named, storeHash, urlKey, origin, narUrl])}\n`;
}

function sum(values: readonly number[]): number {
  return values.reduce((all, value) => all + value, 0);
}

interface Head {
  readonly head: Omit<GivenRecord, 'text'>;
  readonly textBytes: number;
}

/** `undefined` for what was not written here. */
function readHead(line: string): Head | undefined {
  let values: unknown;
  try {
    values = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (!Array.isArray(values)) return undefined;
  const [textBytes, used, named, storeHash, urlKey, origin, narUrl]: unknown[] = values;
  if (typeof textBytes !== 'number' || typeof used !== 'number' || typeof named !== 'boolean')
    return undefined;
  const texts = [storeHash, urlKey, origin, narUrl];
  if (!texts.every((each) => typeof each === 'string')) return undefined;
  const [hash, key, url, own] = texts as [StoreHash, string, string, string];
  return { head: { used, named, storeHash: hash, urlKey: key, origin: url, narUrl: own }, textBytes };
}

function readRecords(records: Buffer, at: number): NotedRecord[] {
  const noted: NotedRecord[] = [];
  for (let start = 0; start < records.length; ) {
    const textStart = records.indexOf(10, start) + 1;
    const read = textStart > 0 ? readHead(records.toString('utf8', start, textStart)) : undefined;
    if (read === undefined) break;
    const bytes = textStart - start + read.textBytes;
    noted.push({ ...read.head, at: at + start, bytes });
    start += bytes;
  }
  return noted;
}
