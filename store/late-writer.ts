/**
 * A small file that is written in one go at its end. Until then it is in the memory of whoever gives it, and the disk has nothing to do with
 * it: neither the wait for an open file nor the work for one that is given up.
 */

import { NarswarmError } from '../nar/errors.ts';
import { type CommitOptions, checkReadRange, type NarFileWriter } from './nar-file-store.ts';

export class LateWriter implements NarFileWriter {
  readonly #create: () => Promise<NarFileWriter>;
  readonly #chunks: Uint8Array[] = [];
  /** Resolves when the chunks are not needed any more. */
  readonly #written = Promise.withResolvers<void>();
  #sizeBytes = 0;
  /** Once it is being written. */
  #committing: Promise<NarFileWriter> | undefined;
  #aborted = false;

  constructor(create: () => Promise<NarFileWriter>) {
    this.#create = create;
    // Also when nobody waits for it.
    this.#written.promise.catch(() => undefined);
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Resolves when it is on the disk, which is after `commit`: until then the chunk is not copied. */
  write(chunk: Uint8Array): Promise<void> {
    if (this.#aborted || this.#committing !== undefined) return Promise.reject(closed());
    this.#chunks.push(chunk);
    this.#sizeBytes += chunk.length;
    return this.#written.promise;
  }

  async read(position: number, lengthBytes: number): Promise<Buffer> {
    checkReadRange(position, lengthBytes, this.#sizeBytes);
    if (this.#committing !== undefined) return (await this.#committing).read(position, lengthBytes);
    if (this.#aborted) throw closed();
    return Buffer.from(Buffer.concat(this.#chunks).subarray(position, position + lengthBytes));
  }

  async commit(options?: CommitOptions): Promise<void> {
    if (this.#aborted) throw closed();
    this.#committing ??= this.#commit(options);
    await this.#committing;
  }

  async abort(): Promise<void> {
    if (this.#committing === undefined && !this.#aborted) {
      this.#aborted = true;
      this.#chunks.length = 0;
      this.#written.resolve();
    }
    // A commit under way is let finish; whether it succeeded is for its own caller.
    await this.#committing?.catch(() => undefined);
  }

  async #commit(options?: CommitOptions): Promise<NarFileWriter> {
    try {
      const writer = await this.#create();
      try {
        await writer.write(
          this.#chunks.length === 1 && this.#chunks[0] ? this.#chunks[0] : Buffer.concat(this.#chunks),
        );
        await writer.commit(options);
      } catch (error) {
        await writer.abort();
        throw error;
      }
      this.#written.resolve();
      return writer;
    } catch (error) {
      this.#written.reject(error);
      throw error;
    } finally {
      this.#chunks.length = 0;
    }
  }
}

function closed(): NarswarmError {
  return new NarswarmError('store-failed', 'the file is finished, or was given up');
}
