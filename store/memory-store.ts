/** NAR files in memory, for tests. Keeps the same promises as the directory store. */

import {
  checkNarFileName,
  checkReadRange,
  type NarFileHandle,
  type NarFileListing,
  type NarFileStore,
  type NarFileWriter,
  storeClosed,
  writerClosed,
} from './nar-file-store.ts';

export class MemoryStore implements NarFileStore {
  readonly #files = new Map<string, Buffer>();
  readonly #writers = new Set<NarFileWriter>();
  #closed = false;

  async open(name: string): Promise<NarFileHandle | undefined> {
    this.#check(name);
    const bytes = this.#files.get(name);
    return bytes === undefined ? undefined : memoryHandle(bytes);
  }

  async create(name: string): Promise<NarFileWriter> {
    this.#check(name);
    const writer = new MemoryWriter((bytes) => {
      this.#writers.delete(writer);
      if (bytes !== undefined) this.#files.set(name, bytes);
    });
    this.#writers.add(writer);
    return writer;
  }

  async remove(name: string): Promise<void> {
    this.#check(name);
    this.#files.delete(name);
  }

  async *list(): AsyncGenerator<NarFileListing> {
    if (this.#closed) throw storeClosed();
    for (const [name, bytes] of this.#files) yield { name, sizeBytes: bytes.length };
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#writers].map((writer) => writer.abort()));
  }

  #check(name: string): void {
    checkNarFileName(name);
    if (this.#closed) throw storeClosed();
  }
}

function memoryHandle(bytes: Buffer): NarFileHandle {
  return {
    sizeBytes: bytes.length,
    async read(position, lengthBytes) {
      checkReadRange(position, lengthBytes, bytes.length);
      return Buffer.from(bytes.subarray(position, position + lengthBytes));
    },
    async close() {},
  };
}

class MemoryWriter implements NarFileWriter {
  readonly #chunks: Buffer[] = [];
  readonly #end: (bytes: Buffer | undefined) => void;
  #sizeBytes = 0;
  #state: 'growing' | 'committed' | 'aborted' = 'growing';

  constructor(end: (bytes: Buffer | undefined) => void) {
    this.#end = end;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  async write(chunk: Uint8Array): Promise<void> {
    if (this.#state !== 'growing') throw writerClosed();
    this.#chunks.push(Buffer.from(chunk));
    this.#sizeBytes += chunk.length;
  }

  async read(position: number, lengthBytes: number): Promise<Buffer> {
    checkReadRange(position, lengthBytes, this.#sizeBytes);
    if (this.#state === 'aborted') throw writerClosed();
    return Buffer.from(Buffer.concat(this.#chunks).subarray(position, position + lengthBytes));
  }

  async commit(): Promise<void> {
    if (this.#state === 'aborted') throw writerClosed();
    if (this.#state === 'committed') return;
    this.#state = 'committed';
    this.#end(Buffer.concat(this.#chunks));
  }

  async abort(): Promise<void> {
    if (this.#state !== 'growing') return;
    this.#state = 'aborted';
    this.#end(undefined);
  }
}
