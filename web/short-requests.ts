/**
 * Answers short requests before Node's HTTP server does: what that does for a request, with its streams, events and timers, takes several times as
 * long as to find a narinfo that is at hand, most of all in a program that has just started.
 *
 * Only what cannot mean anything else is answered here: a GET that came whole, with headers that change nothing, asked after the answer
 * to the last one. With anything else the connection is Node's from then on, as if it had been from its beginning.
 */

import type { Socket } from 'node:net';

export interface ShortAnswer {
  readonly head: ShortHead;
  readonly text: string;
}

/** Status and headers, written out once for all answers that have them. */
export type ShortHead = string & { readonly [brand]: 'ShortHead' };

declare const brand: unique symbol;

export function shortHead(
  status: '200 OK' | '404 Not Found',
  headers: Readonly<Record<string, string>>,
): ShortHead {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${status}\r\n${lines.join('')}` as ShortHead;
}

/** As `sendNotFound` of app.ts. */
export const shortNotFound: ShortAnswer = {
  head: shortHead('404 Not Found', {
    'Content-Type': 'text/plain; charset=utf-8',
    'Cache-Control': 'no-store',
  }),
  text: 'not found\n',
};

/** Answers a GET of a target by `send`, once, at once or later; false for what is left to Node. No promise, as most answers need none. */
export type ShortAnswers = (target: string, send: (answer: ShortAnswer) => void) => boolean;

export interface ShortRequestsOptions {
  answers: ShortAnswers;
  /** Milliseconds until the first request, and between two. */
  firstMs: number;
  keepAliveMs: number;
  /** Gives a connection to Node's server. */
  leave(): void;
  /** A request waits for its answer from now on, and no more. */
  begun(): void;
  ended(): void;
  /** The server closes: no further request is waited for. */
  closing(): boolean;
}

/** Bytes of a request that is short. Nix sends 200. */
const requestMaxBytes = 2_048;

const value = '[\\t\\x20-\\x7e\\x80-\\xff]*';
/** Host is in it, once. There is one way only to match a line: with two, as by a space that is optional before the value, what is none takes twice as long for each line. */
const request = new RegExp(
  [
    '^GET (/[\\x21-\\x7e]*) HTTP/1\\.1\\r\\n',
    '(?=(?:(?!host:).*\\r\\n)*host:(?:.*\\r\\n(?!host:))*\\r\\n$)',
    `(?:(?:host|user-agent|accept|accept-encoding):${value}\\r\\n|connection: ?keep-alive\\r\\n)+\\r\\n$`,
  ].join(''),
  'i',
);

/** The target of a short request. */
export function shortTarget(text: string): string | undefined {
  return text.length > requestMaxBytes ? undefined : request.exec(text)?.[1];
}

/** Takes over a connection on which nothing was read yet. */
export function answerShort(socket: Socket, options: ShortRequestsOptions): void {
  new ShortRequests(socket, options);
}

/** `reading`: a request may come. `draining`: the reader has still to take the last answer. */
type State = 'reading' | 'answering' | 'draining';

class ShortRequests {
  readonly #socket: Socket;
  readonly #options: ShortRequestsOptions;
  #state: State = 'reading';
  #answered = false;
  /** The answer did not come at once. */
  #later = false;
  #ended = false;
  /** Came before it was its turn. */
  #early: Buffer | undefined;

  constructor(socket: Socket, options: ShortRequestsOptions) {
    this.#socket = socket;
    this.#options = options;
    socket.setTimeout(options.firstMs);
    socket.on('data', this.#onData).on('end', this.#onEnd);
    socket.on('timeout', this.#onTimeout).on('error', onError);
  }

  readonly #onData = (chunk: Buffer): void => {
    if (this.#state !== 'reading') {
      // What comes after it waits where it is.
      this.#socket.pause();
      this.#early = this.#early === undefined ? chunk : Buffer.concat([this.#early, chunk]);
      return;
    }
    const target = chunk.length > requestMaxBytes ? undefined : shortTarget(chunk.toString('latin1'));
    this.#state = 'answering';
    if (target !== undefined && this.#options.answers(target, this.#send)) {
      this.#isLater();
      return;
    }
    this.#state = 'reading';
    this.#leave(chunk);
  };

  #isLater(): void {
    // It may be answered already.
    if (this.#state !== 'answering') return;
    this.#later = true;
    this.#options.begun();
  }

  readonly #send = ({ head, text }: ShortAnswer): void => {
    const { ended, closing, keepAliveMs } = this.#options;
    const socket = this.#socket;
    if (socket.destroyed) return;
    const last = closing() || this.#ended;
    const lengthBytes = Buffer.byteLength(text);
    const all = `${head}Content-Length: ${lengthBytes}${last ? lastEnd() : usualEnd(keepAliveMs)}${text}`;
    const taken = socket.write(all, lengthBytes === text.length ? 'latin1' : 'utf8');
    if (!this.#answered) socket.setTimeout(keepAliveMs);
    this.#answered = true;
    this.#state = taken ? 'reading' : 'draining';
    if (!taken) socket.once('drain', this.#onDrain);
    if (last) socket.end();
    if (this.#later) ended();
    this.#later = false;
    if (taken) this.#goOn();
  };

  readonly #onDrain = (): void => {
    this.#state = 'reading';
    this.#goOn();
  };

  /** Whoever asks before the answer came is Node's. */
  #goOn(): void {
    if (this.#early !== undefined && !this.#socket.destroyed) this.#leave(this.#early);
  }

  #leave(unread: Buffer): void {
    const socket = this.#socket;
    socket.off('data', this.#onData).off('end', this.#onEnd);
    socket.off('timeout', this.#onTimeout).off('error', onError);
    socket.pause();
    socket.unshift(unread);
    this.#options.leave();
    socket.resume();
  }

  readonly #onEnd = (): void => {
    this.#ended = true;
    if (this.#state !== 'answering') this.#socket.end();
  };

  readonly #onTimeout = (): void => {
    if (this.#state !== 'answering') this.#socket.destroy();
  };
}

/** The connection is gone, and says so by closing: there is nobody left to tell. */
function onError(): void {}

function lastEnd(): string {
  return `${dateLine()}Connection: close\r\n\r\n`;
}

/** Of the head, the same for all of a second. */
let end = '';
let endSecond = 0;
let endKeepAliveMs = 0;

function usualEnd(keepAliveMs: number): string {
  const second = Math.floor(Date.now() / 1_000);
  if (second !== endSecond || keepAliveMs !== endKeepAliveMs) {
    endSecond = second;
    endKeepAliveMs = keepAliveMs;
    const seconds = Math.floor(keepAliveMs / 1_000);
    end = `${dateLine()}Connection: keep-alive\r\nKeep-Alive: timeout=${seconds}\r\n\r\n`;
  }
  return end;
}

function dateLine(): string {
  return `\r\nDate: ${new Date().toUTCString()}\r\n`;
}
