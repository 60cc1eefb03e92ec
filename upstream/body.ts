/** The body of an answer, with the promises that callers rest on. */

import { NarswarmError } from '../nar/errors.ts';
import type { AnswerBody } from './exchange.ts';
import { failed, upstreamError } from './http-client.ts';

export interface BodyOptions {
  /** For errors. */
  url: URL;
  signal: AbortSignal;
  /** Bytes at the start that are not wanted: they were asked to be left out and were not. */
  skipBytes?: number;
  /** Bytes that must come after those, if known: one more or one less is `upstream-failed`. */
  expectedBytes?: number | undefined;
}

/**
 * Chunks as they arrive. `return`, also before the first `next`, gives the connection up; so does an error. An async
 * generator would not do: it does not run its `finally` when it was never started.
 */
export class Body implements AsyncIterableIterator<Buffer> {
  readonly #stream: AnswerBody;
  readonly #options: BodyOptions;
  #skipBytes: number;
  #receivedBytes = 0;
  #ended = false;

  constructor(stream: AnswerBody, options: BodyOptions) {
    this.#stream = stream;
    this.#options = options;
    this.#skipBytes = options.skipBytes ?? 0;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Buffer, undefined>> {
    try {
      while (!this.#ended) {
        const { done, value } = await this.#stream.next();
        if (done === true) {
          this.#finish();
          break;
        }
        const wanted = this.#take(value);
        if (wanted.length > 0) return { done: false, value: wanted };
      }
      return { done: true, value: undefined };
    } catch (error) {
      this.#giveUp();
      throw upstreamError(error, this.#options.url, this.#options.signal);
    }
  }

  async return(): Promise<IteratorResult<Buffer, undefined>> {
    this.#giveUp();
    return { done: true, value: undefined };
  }

  #take(chunk: Buffer): Buffer {
    const { url, expectedBytes } = this.#options;
    const skipped = Math.min(this.#skipBytes, chunk.length);
    this.#skipBytes -= skipped;
    const wanted = chunk.subarray(skipped);
    this.#receivedBytes += wanted.length;
    if (expectedBytes !== undefined && this.#receivedBytes > expectedBytes) {
      throw failed(url, `more than ${expectedBytes} bytes`);
    }
    return wanted;
  }

  #finish(): void {
    this.#ended = true;
    const { url, expectedBytes } = this.#options;
    if (this.#skipBytes > 0) throw failed(url, 'the file ends before the part that was asked for');
    if (expectedBytes !== undefined && this.#receivedBytes < expectedBytes) {
      throw failed(url, `${this.#receivedBytes} bytes instead of ${expectedBytes}`);
    }
  }

  #giveUp(): void {
    this.#ended = true;
    this.#stream.destroy();
  }
}

/** All of a body that has at most `maxBytes` bytes; `upstream-failed` if it has more. */
export async function readWhole(body: Body, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    if (size > maxBytes)
      throw new NarswarmError('upstream-failed', `an answer of more than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
