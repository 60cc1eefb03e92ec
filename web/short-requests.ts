/**
 * Answers short requests before Node's HTTP server does: what that does for a request, with its streams, events and timers, takes several times as
 * long as to find a narinfo that is at hand, most of all in a program that has just started.
 *
 * Only what cannot mean anything else is answered here: a GET that came whole, with headers that change nothing, asked after the answer
 * to the last one. With anything else the connection is Node's from then on, as if it had been from its beginning.
 */

import type { Socket } from 'node:net';

export interface ShortAnswer {
  readonly status: '200 OK' | '404 Not Found';
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
}

/** As `sendNotFound` of app.ts. */
export const shortNotFound: ShortAnswer = {
  status: '404 Not Found',
  headers: { 'Content-Type': 'text/plain; charset=utf-8', 'Cache-Control': 'no-store' },
  text: 'not found\n',
};

/** The answer to a GET of a target; `undefined` for what is left to Node. A promise never rejects. */
export type ShortAnswers = (target: string) => ShortAnswer | Promise<ShortAnswer> | undefined;

export interface ShortRequestsOptions {
  answers: ShortAnswers;
  /** Milliseconds until the first request, and between two. */
  firstMs: number;
  keepAliveMs: number;
  /** Gives a connection to Node's server. */
  leave(): void;
  /** A request is being answered from now on, and no more. */
  begun(): void;
  ended(): void;
  /** The server closes: no further request is waited for. */
  closing(): boolean;
}

/** Bytes of a request that is short. Nix sends 200. */
const requestMaxBytes = 2_048;

const value = '[\\t\\x20-\\x7e\\x80-\\xff]*';
/** Host is in it, once. */
const request = new RegExp(
  [
    '^GET (/[\\x21-\\x7e]*) HTTP/1\\.1\\r\\n',
    '(?=(?:(?!host:).*\\r\\n)*host:(?:.*\\r\\n(?!host:))*\\r\\n$)',
    `(?:(?:host|user-agent|accept|accept-encoding): ?${value}\\r\\n|connection: ?keep-alive\\r\\n)+\\r\\n$`,
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
    const answer = target === undefined ? undefined : this.#options.answers(target);
    if (answer === undefined) {
      this.#leave(chunk);
      return;
    }
    this.#options.begun();
    if (answer instanceof Promise) {
      this.#state = 'answering';
      void answer.then((ready) => this.#send(ready));
    } else this.#send(answer);
  };

  #send({ status, headers, text }: ShortAnswer): void {
    const { ended, closing, keepAliveMs } = this.#options;
    const socket = this.#socket;
    if (socket.destroyed) return;
    const last = closing() || this.#ended;
    const lengthBytes = Buffer.byteLength(text);
    let head = `HTTP/1.1 ${status}\r\n`;
    for (const name in headers) head += `${name}: ${headers[name]}\r\n`;
    head += `Content-Length: ${lengthBytes}\r\nDate: ${httpDate()}\r\n`;
    head += last
      ? 'Connection: close\r\n\r\n'
      : `Connection: keep-alive\r\nKeep-Alive: timeout=${Math.floor(keepAliveMs / 1_000)}\r\n\r\n`;
    const taken = socket.write(head + text, lengthBytes === text.length ? 'latin1' : 'utf8');
    if (!this.#answered) socket.setTimeout(keepAliveMs);
    this.#answered = true;
    this.#state = taken ? 'reading' : 'draining';
    if (!taken) socket.once('drain', this.#onDrain);
    if (last) socket.end();
    ended();
    if (taken) this.#goOn();
  }

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

let date = '';
let dateSecond = 0;

function httpDate(): string {
  const second = Math.floor(Date.now() / 1_000);
  if (second !== dateSecond) {
    dateSecond = second;
    date = new Date(second * 1_000).toUTCString();
  }
  return date;
}
