/** Records of one size in one growing buffer: a million of them cost no objects, and nothing for the garbage collector to walk. */

/** In the place of a record: there is none. */
export const none = -1;

/** Records at first; the buffer doubles from there. */
const firstRecords = 1_024;

export class Slab {
  readonly recordBytes: number;
  readonly #recordsMax: number;
  #bytes: Buffer;
  #view: DataView;
  /** Records that are in use. */
  used = 0;
  /** Where no record has been yet. */
  #end = 0;
  /** Head of the list of records that were given back; each begins with the next one. */
  #free = none;

  /** `recordBytes`: at least 4. */
  constructor(recordBytes: number, recordsMax: number) {
    this.recordBytes = recordBytes;
    this.#recordsMax = recordsMax;
    this.#bytes = Buffer.alloc(recordBytes * Math.min(firstRecords, recordsMax));
    this.#view = viewOf(this.#bytes);
  }

  /** Another one after each growth: never kept across `take`. */
  get view(): DataView {
    return this.#view;
  }

  get bytes(): Buffer {
    return this.#bytes;
  }

  /** Bytes that are taken from the system. */
  get sizeBytes(): number {
    return this.#bytes.length;
  }

  /** Offset of a new record, filled with zeros; `none` when there are as many as allowed. */
  take(): number {
    if (this.used >= this.#recordsMax) return none;
    let record = this.#free;
    if (record !== none) this.#free = this.#view.getInt32(record);
    else {
      if (this.#end === this.#bytes.length) this.#grow();
      record = this.#end;
      this.#end += this.recordBytes;
    }
    this.#bytes.fill(0, record, record + this.recordBytes);
    this.used++;
    return record;
  }

  give(record: number): void {
    this.#view.setInt32(record, this.#free);
    this.#free = record;
    this.used--;
  }

  #grow(): void {
    const records = Math.min(this.#recordsMax, (this.#bytes.length / this.recordBytes) * 2);
    const bytes = Buffer.alloc(records * this.recordBytes);
    bytes.set(this.#bytes);
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
  }
}

function viewOf(bytes: Buffer): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}
