/** A path to a server that takes time: a TCP proxy on loopback with a delay, and if wanted a rate, in each direction. */

import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export interface SlowPathOptions {
  target: { host: string; port: number };
  /** 127.0.0.1 and a free port by default. */
  listen?: { host: string; port: number };
  /** One way: a round trip takes twice as long. Settling a connection takes a round trip, too. */
  delayMs: number;
  /** What the path carries in each direction, over all its connections. No limit without it. */
  bytesPerSecond?: number;
}

export interface SlowPath {
  readonly host: string;
  readonly port: number;
  /** Connections that are open now. */
  connections(): number;
  /** Connections ever made. */
  accepted(): number;
  close(): Promise<void>;
}

/** Bytes of one connection that may be on their way in one direction: a path of 160 MB/s at 100 ms holds as many. */
const underWayMaxBytes = 16 * 1024 * 1024;
/** Milliseconds that bytes wait for their turn on a path that has a rate, as in the memory of a router: who sends more is held up, as by TCP. */
const queueMaxMs = 250;

export async function openSlowPath(options: SlowPathOptions): Promise<SlowPath> {
  const { target, listen = { host: '127.0.0.1', port: 0 }, delayMs, bytesPerSecond } = options;
  const there = new Link(bytesPerSecond);
  const back = new Link(bytesPerSecond);
  const sockets = new Set<Socket>();
  const lanes = new Set<Lane>();
  let accepted = 0;
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (near) => {
    accepted++;
    const far = connect({ ...target, allowHalfOpen: true, noDelay: true });
    // To whoever connected the connection stands at once; elsewhere that takes until the other side has answered.
    const readyMs = performance.now() + 2 * delayMs;
    const pair = [new Lane(near, far, there, delayMs, readyMs), new Lane(far, near, back, delayMs, 0)];
    for (const lane of pair) lanes.add(lane);
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        sockets.delete(socket);
        for (const lane of pair) if (lane.ended) lanes.delete(lane);
      });
    }
  });
  server.listen(listen.port, listen.host);
  await once(server, 'listening');
  return {
    host: listen.host,
    port: (server.address() as AddressInfo).port,
    connections: () => Math.ceil(sockets.size / 2),
    accepted: () => accepted,
    async close() {
      for (const lane of lanes) lane.stop();
      for (const socket of sockets) socket.destroy();
      server.close();
      if (server.listening) await once(server, 'close');
    },
  };
}

/** One direction of the path: what goes over it takes its turn. */
class Link {
  readonly #bytesPerMs: number;
  #freeMs = 0;

  constructor(bytesPerSecond = Number.POSITIVE_INFINITY) {
    this.#bytesPerMs = bytesPerSecond / 1_000;
  }

  /** When the last of so many bytes has left, if the first may leave at `fromMs`. */
  leaves(bytes: number, fromMs: number): number {
    this.#freeMs = Math.max(fromMs, this.#freeMs) + bytes / this.#bytesPerMs;
    return this.#freeMs;
  }

  /** Milliseconds until it takes more. */
  fullForMs(nowMs: number): number {
    return Math.max(0, this.#freeMs - nowMs - queueMaxMs);
  }
}

/** One direction of one connection. */
class Lane {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #link: Link;
  /** What is on its way, and when it arrives; `undefined` is the end, an error if it came as one. */
  readonly #underWay: { atMs: number; bytes: Buffer | undefined; cut: boolean }[] = [];
  #underWayBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #heldUp: NodeJS.Timeout | undefined;
  ended = false;

  constructor(from: Socket, to: Socket, link: Link, delayMs: number, readyMs: number) {
    this.#from = from;
    this.#to = to;
    this.#link = link;
    const send = (bytes: Buffer | undefined, cut = false): void => {
      const fromMs = Math.max(performance.now(), readyMs);
      const atMs = link.leaves(bytes?.length ?? 0, fromMs) + delayMs;
      this.#underWay.push({ atMs, bytes, cut });
      this.#underWayBytes += bytes?.length ?? 0;
      this.#holdUp();
      this.#schedule();
    };
    from.on('data', send);
    from.on('end', () => send(undefined));
    from.on('close', () => send(undefined, true));
    to.on('drain', () => this.#deliver());
    to.on('close', () => this.stop());
  }

  stop(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#heldUp);
    this.#timer = undefined;
    this.ended = true;
    this.#underWay.length = 0;
  }

  /** Takes more from the sender, or not before there is room for it. */
  #holdUp(): void {
    clearTimeout(this.#heldUp);
    const fullMs = this.#link.fullForMs(performance.now());
    if (this.#underWayBytes <= underWayMaxBytes && fullMs === 0) {
      this.#from.resume();
      return;
    }
    this.#from.pause();
    if (fullMs > 0 && !this.ended) this.#heldUp = setTimeout(() => this.#holdUp(), fullMs);
  }

  #schedule(): void {
    const next = this.#underWay[0];
    if (next === undefined || this.#timer !== undefined || this.ended) return;
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        this.#deliver();
      },
      Math.max(0, next.atMs - performance.now()),
    );
  }

  #deliver(): void {
    // A timer may fire up to a millisecond early.
    const nowMs = performance.now() + 0.5;
    for (let next = this.#underWay[0]; next !== undefined; next = this.#underWay[0]) {
      if (next.atMs > nowMs || this.#to.writableNeedDrain) break;
      this.#underWay.shift();
      if (next.cut) this.#to.destroy();
      else if (next.bytes === undefined) this.#to.end();
      else {
        this.#underWayBytes -= next.bytes.length;
        this.#to.write(next.bytes);
      }
    }
    this.#holdUp();
    if (!this.#to.writableNeedDrain) this.#schedule();
  }
}
