/**
 * How long each NAR file of a catalog has had how many seeds: what may be deleted elsewhere, and what is about to be lost, follows from it.
 *
 * A file of 32 bytes for each ordinal: for each level k from 1 to 8 the minute since when it has had at least k seeds at every look, or 0.
 * Changed in place, a few NAR files at a time, so that neither memory nor a crash in the middle matters.
 */

import { constants, type FileHandle, open } from 'node:fs/promises';
import { NarswarmError } from '../nar/errors.ts';
import { type Sha256, sha256ToDigest } from '../nar/hash.ts';
import { diskError } from '../store/disk-error.ts';

/** More seeds than this are not told apart. */
export const seedsMax = 8;

/** Longer between two looks, nobody knows what was there meanwhile: all times begin anew. */
export const blindMaxMs = 24 * 3_600_000;

const minuteMs = 60_000;
const recordBytes = seedsMax * 4;
const magic = Buffer.from('narswarm-seeds-1');
/** The magic, the FileHash of the first NAR file, and the minute of the last look. */
const headerBytes = magic.length + 32 + 8;
/** Ordinals that are looked at between two turns of others. */
const turnOrdinals = 4_096;

/** One NAR file, by its ordinal: for each number of seeds, one less than it as the index, since when there are so many; 0 for not. */
export interface SeedTimes {
  readonly ordinal: number;
  /** Milliseconds since 1970; `seedsMax` of them. */
  readonly sinceMs: readonly number[];
}

export class Availability {
  readonly #file: FileHandle;
  #lookedMinute: number;
  #turn: Promise<void> = Promise.resolve();

  private constructor(file: FileHandle, lookedMinute: number) {
    this.#file = file;
    this.#lookedMinute = lookedMinute;
  }

  /**
   * Makes the file when it is missing, or about another catalog than the one whose first NAR file is `first`. Throws store-failed.
   */
  static async open(path: string, first: Sha256 | undefined): Promise<Availability> {
    try {
      const file = await open(path, constants.O_RDWR | constants.O_CREAT);
      const expected = Buffer.concat([magic, first === undefined ? Buffer.alloc(32) : sha256ToDigest(first)]);
      const header = Buffer.alloc(headerBytes);
      const { bytesRead } = await file.read(header, 0, headerBytes, 0);
      if (bytesRead === headerBytes && header.subarray(0, expected.length).equals(expected)) {
        return new Availability(file, Number(header.readBigUInt64LE(expected.length)));
      }
      await file.truncate(0);
      await file.write(Buffer.concat([expected, Buffer.alloc(8)]), 0, headerBytes, 0);
      return new Availability(file, 0);
    } catch (cause) {
      throw diskError(`open ${path}`, cause);
    }
  }

  /** When the seeds were last counted, in milliseconds since 1970; 0 for never. */
  get lookedMs(): number {
    return this.#lookedMinute * minuteMs;
  }

  /** Counts the seeds of all ordinals. One look after the other. Throws store-failed. */
  look(ordinals: number, seedsOf: (ordinal: number) => number, nowMs: number): Promise<void> {
    const turn = this.#turn.then(() => this.#look(ordinals, seedsOf, nowMs));
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  /** What is known at this moment, by ordinal. */
  async *times(): AsyncGenerator<SeedTimes> {
    for (let from = 0; ; from += turnOrdinals) {
      const records = await this.#read(from, turnOrdinals);
      const count = records.length / recordBytes;
      for (let at = 0; at < count; at++) {
        const sinceMs = Array.from(
          { length: seedsMax },
          (_, level) => records.readUInt32LE(at * recordBytes + level * 4) * minuteMs,
        );
        yield { ordinal: from + at, sinceMs };
      }
      if (count < turnOrdinals) return;
    }
  }

  /** Waits for the look that is under way. May be called twice. */
  async close(): Promise<void> {
    await this.#turn;
    await this.#file.close();
  }

  async #look(ordinals: number, seedsOf: (ordinal: number) => number, nowMs: number): Promise<void> {
    const minute = Math.max(1, Math.floor(nowMs / minuteMs));
    // A clock that went back says as little as one that went on unseen.
    const blind = Math.abs(minute - this.#lookedMinute) * minuteMs > blindMaxMs;
    for (let from = 0; from < ordinals; from += turnOrdinals) {
      const count = Math.min(turnOrdinals, ordinals - from);
      const records = Buffer.alloc(count * recordBytes);
      (await this.#read(from, count)).copy(records);
      let changed = false;
      for (let at = 0; at < count; at++) {
        const seeds = seedsOf(from + at);
        for (let level = 0; level < seedsMax; level++) {
          const offset = at * recordBytes + level * 4;
          const before = records.readUInt32LE(offset);
          const since = seeds <= level ? 0 : before === 0 || before > minute || blind ? minute : before;
          if (since === before) continue;
          records.writeUInt32LE(since, offset);
          changed = true;
        }
      }
      if (changed) await this.#write(records, headerBytes + from * recordBytes);
    }
    const looked = Buffer.alloc(8);
    looked.writeBigUInt64LE(BigInt(minute));
    await this.#write(looked, headerBytes - 8);
    this.#lookedMinute = minute;
  }

  async #read(from: number, count: number): Promise<Buffer> {
    const records = Buffer.alloc(count * recordBytes);
    try {
      const position = headerBytes + from * recordBytes;
      const { bytesRead } = await this.#file.read(records, 0, records.length, position);
      return records.subarray(0, bytesRead - (bytesRead % recordBytes));
    } catch (cause) {
      throw diskError('read the times of seeds', cause);
    }
  }

  async #write(bytes: Buffer, position: number): Promise<void> {
    try {
      const { bytesWritten } = await this.#file.write(bytes, 0, bytes.length, position);
      if (bytesWritten < bytes.length) throw new NarswarmError('store-failed', 'the disk took only a part');
    } catch (cause) {
      throw diskError('write the times of seeds', cause);
    }
  }
}
