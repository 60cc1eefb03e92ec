/**
 * The account of the disk: what is held, what is promised to files that are being written, and what else the data directory takes.
 * Pure. Nothing is written before it was reserved, so that the quota and the floor of free disk hold while files come in as well.
 */

export interface LedgerOptions {
  /** For everything in the data directory. */
  quotaBytes: number;
  /** Left free on the file system, whoever fills it. */
  minFreeBytes: number;
}

export interface LedgerStatus {
  quotaBytes: number;
  minFreeBytes: number;
  heldBytes: number;
  /** For files that are being written, whole. */
  reservedBytes: number;
  /** The mirror's databases and the catalogs' files. */
  otherBytes: number;
}

export class Ledger {
  readonly #options: LedgerOptions;
  #heldBytes = 0;
  #otherBytes = 0;
  /** By name of the file. */
  readonly #reservations = new Map<string, { bytes: number; writtenBytes: number }>();

  constructor(options: LedgerOptions) {
    this.#options = options;
  }

  get usedBytes(): number {
    let reserved = 0;
    for (const { bytes } of this.#reservations.values()) reserved += bytes;
    return this.#heldBytes + this.#otherBytes + reserved;
  }

  /** By how much the quota is exceeded: it became smaller, or what is beside the NAR files grew. */
  get overBytes(): number {
    return Math.max(0, this.usedBytes - this.#options.quotaBytes);
  }

  /** What the NAR files may take in all. */
  get narBytesMax(): number {
    return Math.max(0, this.#options.quotaBytes - this.#otherBytes);
  }

  setOther(bytes: number): void {
    this.#otherBytes = bytes;
  }

  /** A file that is there already: found at start, or left by an earlier run. */
  addHeld(bytes: number): void {
    this.#heldBytes += bytes;
  }

  removeHeld(bytes: number): void {
    this.#heldBytes -= bytes;
  }

  /**
   * Bytes that are missing for a file of `bytes`; 0 when it has its place from now on. `diskFreeBytes`: what the file system has free
   * now. A name can be reserved once at a time.
   */
  reserve(name: string, bytes: number, diskFreeBytes: number): number {
    if (this.#reservations.has(name)) throw new RangeError(`${name} is reserved twice`);
    const missing = this.missingBytes(bytes, diskFreeBytes);
    if (missing === 0) this.#reservations.set(name, { bytes, writtenBytes: 0 });
    return missing;
  }

  /** Bytes that would have to go for `bytes` more. */
  missingBytes(bytes: number, diskFreeBytes: number): number {
    const { quotaBytes, minFreeBytes } = this.#options;
    const overQuota = this.usedBytes + bytes - quotaBytes;
    const overDisk = bytes + this.#unwrittenBytes() + minFreeBytes - diskFreeBytes;
    return Math.max(0, overQuota, overDisk);
  }

  /** So many bytes of it are on the disk now: they are no longer free there. Throws when it was not promised so many. */
  wrote(name: string, writtenBytes: number): void {
    const reservation = this.#reservations.get(name);
    if (reservation === undefined || writtenBytes > reservation.bytes) {
      throw new RangeError(`${name}: ${writtenBytes} bytes were not reserved`);
    }
    reservation.writtenBytes = writtenBytes;
  }

  /** It is held now, and counts as that. */
  keep(name: string): void {
    this.#heldBytes += this.#take(name).bytes;
  }

  /** It was given up, and is off the disk. */
  release(name: string): void {
    this.#take(name);
  }

  status(): LedgerStatus {
    return {
      ...this.#options,
      heldBytes: this.#heldBytes,
      reservedBytes: this.usedBytes - this.#heldBytes - this.#otherBytes,
      otherBytes: this.#otherBytes,
    };
  }

  #take(name: string): { bytes: number } {
    const reservation = this.#reservations.get(name);
    if (reservation === undefined) throw new RangeError(`${name} is not reserved`);
    this.#reservations.delete(name);
    return reservation;
  }

  #unwrittenBytes(): number {
    let bytes = 0;
    for (const each of this.#reservations.values()) bytes += each.bytes - each.writtenBytes;
    return bytes;
  }
}
