/** Files that are kept open for the next read, so many at most: the least recently used is closed for another one. */

export interface ReadableFile {
  /** Exactly `lengthBytes` bytes from `position`. Throws when they are not there. */
  read(position: number, lengthBytes: number): Promise<Buffer>;
  close(): Promise<void>;
}

interface Entry {
  readonly file: Promise<ReadableFile>;
  users: number;
}

export class OpenFiles {
  readonly #max: number;
  /** The least recently used first. */
  readonly #entries = new Map<string, Entry>();
  readonly #closing = new Set<Promise<void>>();
  readonly #waiting: (() => void)[] = [];
  #open = 0;

  constructor(max: number) {
    this.#max = Math.max(1, max);
  }

  /** Files that are open, being opened or being closed: never more than `max`. */
  get size(): number {
    return this.#open;
  }

  /**
   * Reads from the file with this key, which `open` opens if it is not open. Waits while all of them are being read: whoever reads must not
   * wait for another file meanwhile. Throws what `open` and the file throw.
   */
  async read(
    key: string,
    open: () => Promise<ReadableFile>,
    position: number,
    lengthBytes: number,
  ): Promise<Buffer> {
    const entry = await this.#acquire(key, open);
    try {
      const file = await entry.file;
      return await file.read(position, lengthBytes);
    } catch (error) {
      // Whoever asks next opens it anew.
      if (this.#entries.get(key) === entry) this.#drop(key, entry);
      throw error;
    } finally {
      entry.users--;
      if (entry.users === 0 && this.#entries.get(key) !== entry) this.#close(entry);
      this.#waiting.shift()?.();
    }
  }

  /** Closes those that nobody reads. Resolves when they are closed. */
  async closeIdle(): Promise<void> {
    for (const [key, entry] of this.#entries) if (entry.users === 0) this.#drop(key, entry);
    await Promise.all(this.#closing);
  }

  async #acquire(key: string, open: () => Promise<ReadableFile>): Promise<Entry> {
    for (;;) {
      const known = this.#entries.get(key);
      if (known !== undefined) {
        this.#entries.delete(key);
        this.#entries.set(key, known);
        known.users++;
        return known;
      }
      if (this.#open < this.#max) {
        this.#open++;
        const entry = { file: open(), users: 1 };
        // Told to whoever reads.
        entry.file.catch(() => undefined);
        this.#entries.set(key, entry);
        return entry;
      }
      await this.#room();
    }
  }

  async #room(): Promise<void> {
    for (const [key, entry] of this.#entries) {
      if (entry.users > 0) continue;
      this.#drop(key, entry);
      break;
    }
    const [closing] = this.#closing;
    if (closing !== undefined) await closing;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #drop(key: string, entry: Entry): void {
    this.#entries.delete(key);
    if (entry.users === 0) this.#close(entry);
  }

  #close(entry: Entry): void {
    const closing: Promise<void> = entry.file
      .then((file) => file.close())
      // One that was never open, or that fails to close, has nothing more to give.
      .catch(() => undefined)
      .then(() => {
        this.#open--;
        this.#closing.delete(closing);
        this.#waiting.shift()?.();
      });
    this.#closing.add(closing);
  }
}
