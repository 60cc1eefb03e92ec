/**
 * One request over undici and its answer. By its lower interface: the streams, promises and listeners of the upper one cost more than all else that
 * a narinfo or a small NAR file takes.
 */

import type { IncomingHttpHeaders } from 'node:http';
import type { Dispatcher } from 'undici';

/** Bytes that came and were not read, beyond which no more are taken from the network. */
const unreadMaxBytes = 128 * 1024;

export interface RawAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  /** To be read to its end or destroyed, as it holds a connection. */
  body: AnswerBody;
}

export interface ExchangeOptions {
  /** Rejects the answer and fails its body with the reason. */
  signal: AbortSignal;
  /** There is no answer, or its body has come, or nobody wants the rest. Once. */
  onEnd(): void;
}

/** Rejects with an error of undici's. */
export function exchange(
  dispatcher: Dispatcher,
  request: Dispatcher.DispatchOptions,
  options: ExchangeOptions,
): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    const handler = new Exchange(options, resolve, reject);
    try {
      if (!handler.over) dispatcher.dispatch(request, handler);
    } catch (error) {
      handler.onResponseError(undefined, asError(error));
    }
  });
}

class Exchange implements Dispatcher.DispatchHandler {
  readonly #options: ExchangeOptions;
  readonly #resolve: (answer: RawAnswer) => void;
  readonly #reject: (error: Error) => void;
  #controller: Dispatcher.DispatchController | undefined;
  #body: AnswerBody | undefined;
  #over = false;
  /** Why it was given up, which the connection is told when there is one. */
  #reason: Error | undefined;

  constructor(
    options: ExchangeOptions,
    resolve: (answer: RawAnswer) => void,
    reject: (error: Error) => void,
  ) {
    this.#options = options;
    this.#resolve = resolve;
    this.#reject = reject;
    const { signal } = options;
    if (signal.aborted) this.#onAbort();
    else signal.addEventListener('abort', this.#onAbort);
  }

  get over(): boolean {
    return this.#over;
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#reason !== undefined) controller.abort(this.#reason);
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    headers: IncomingHttpHeaders,
  ): void {
    // Another one follows those that begin with 1.
    if (status < 200 || this.#over) return;
    this.#body = new AnswerBody({
      resume: () => {
        if (controller.paused) controller.resume();
      },
      abort: (error) => this.#giveUp(error),
    });
    this.#resolve({ status, headers, body: this.#body });
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#body?.push(chunk) === false) controller.pause();
  }

  onResponseEnd(): void {
    this.#end();
    this.#body?.end();
  }

  onResponseError(_controller: unknown, error: Error): void {
    this.#end();
    if (this.#body === undefined) this.#reject(error);
    else this.#body.fail(error);
  }

  readonly #onAbort = (): void => {
    this.#giveUp(asError(this.#options.signal.reason));
  };

  /** At once, also while it waits for a connection. */
  #giveUp(error: Error): void {
    if (this.#over) return;
    this.#reason = error;
    this.onResponseError(undefined, error);
    this.#controller?.abort(error);
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    const { signal, onEnd } = this.#options;
    signal.removeEventListener('abort', this.#onAbort);
    onEnd();
  }
}

/** Chunks as they came; what came before it failed is read first. */
export class AnswerBody implements AsyncIterableIterator<Buffer> {
  readonly #connection: { resume(): void; abort(error: Error): void };
  readonly #chunks: Buffer[] = [];
  #unreadBytes = 0;
  /** Bytes that may still come of what nobody wants. */
  #dumpBytes: number | undefined;
  #ended = false;
  #error: Error | undefined;
  #wake: (() => void) | undefined;

  constructor(connection: { resume(): void; abort(error: Error): void }) {
    this.#connection = connection;
  }

  /** False when no more are to be taken from the network for now. */
  push(chunk: Buffer): boolean {
    if (this.#dumpBytes !== undefined) {
      this.#dumpBytes -= chunk.length;
      if (this.#dumpBytes < 0) this.destroy();
      return true;
    }
    this.#chunks.push(chunk);
    this.#unreadBytes += chunk.length;
    this.#wakeUp();
    return this.#unreadBytes < unreadMaxBytes;
  }

  end(): void {
    this.#ended = true;
    this.#wakeUp();
  }

  fail(error: Error): void {
    if (this.#ended) return;
    this.#error = error;
    this.end();
  }

  /** The rest is not wanted. */
  destroy(): void {
    this.#chunks.length = 0;
    if (!this.#ended) this.#connection.abort(new Error('not read to its end'));
  }

  /** The rest is not wanted, but may come for the sake of the connection if it has no more than so many bytes. */
  dump(bytes: number): void {
    this.#dumpBytes = bytes - this.#unreadBytes;
    this.#chunks.length = 0;
    if (this.#dumpBytes < 0) this.destroy();
    else this.#connection.resume();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Buffer, undefined>> {
    while (this.#chunks.length === 0 && !this.#ended) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const value = this.#chunks.shift();
    if (value !== undefined) {
      this.#unreadBytes -= value.length;
      if (!this.#ended && this.#unreadBytes === 0) this.#connection.resume();
      return { done: false, value };
    }
    if (this.#error !== undefined) throw this.#error;
    return { done: true, value: undefined };
  }

  #wakeUp(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error('given up', { cause: reason });
}
