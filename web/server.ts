/** Listens for HTTP, and stops in bounded time. */

import { createServer, type RequestListener, type Server } from 'node:http';
import { type AddressInfo, isIPv6, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { NarswarmError } from '../nar/errors.ts';
import { answerShort, type ShortAnswers } from './short-requests.ts';

export interface HttpLimits {
  /** Milliseconds for the head of a request, against callers that send a byte now and then. */
  headersTimeoutMs: number;
  /** Milliseconds for a whole request with its body: 512 KiB on a slow line, with room. */
  requestTimeoutMs: number;
  /** Milliseconds that a connection may idle between requests. Longer than proxies keep theirs (60 s), so that none is reused as we close it. */
  keepAliveMs: number;
  /** Milliseconds without a byte either way, which is also how long a reader may stand still. Nix's own limit is 300 s. */
  silenceMs: number;
  /** Bytes of one request's head. */
  headMaxBytes: number;
  /** Connections at once. Nix opens 25, so this is 160 machines at full tilt; above it, connections are closed at once. */
  connections: number;
  /**
   * Requests of one connection that wait for their answers; one that sends more is cut. Nix and browsers send the next when the last was answered;
   * each that is under way may hold a megabyte.
   */
  requestsAtOnce: number;
  /** Connections that the kernel may hold before they are accepted: a thousand machines updating at the full hour. */
  backlog: number;
  /** Milliseconds that answers under way get to finish when the server closes. */
  drainMs: number;
}

export const defaultHttpLimits: Readonly<HttpLimits> = {
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 30_000,
  keepAliveMs: 75_000,
  silenceMs: 300_000,
  headMaxBytes: 16 * 1024,
  connections: 4_000,
  requestsAtOnce: 16,
  backlog: 1_024,
  drainMs: 1_000,
};

/** How often Node looks for connections whose time is up; the limits are exact to this. */
const timeoutCheckMs = 1_000;

export interface HttpServerOptions {
  host: string;
  /** 0 lets the system choose. */
  port: number;
  /** An express application, or any other listener. */
  app: RequestListener;
  /** Asked first, for requests that are short. */
  short?: ShortAnswers;
  limits?: Partial<HttpLimits>;
}

export interface HttpServer {
  readonly host: string;
  readonly port: number;
  /** Without a slash at the end. A wildcard address is shown as the loopback address of its family. */
  readonly url: string;
  connections(): number;
  /** Accepts no more, lets answers under way finish for at most `drainMs`, cuts the rest. May be called twice. */
  close(): Promise<void>;
}

/** Throws `config-invalid` when the address cannot be listened on. */
export async function openHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const { host, port, app, short } = options;
  const limits = { ...defaultHttpLimits, ...options.limits };
  const server = createServer({
    headersTimeout: limits.headersTimeoutMs,
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.keepAliveMs,
    maxHeaderSize: limits.headMaxBytes,
    connectionsCheckingInterval: timeoutCheckMs,
    noDelay: true,
  });
  server.maxConnections = limits.connections;
  server.timeout = limits.silenceMs;
  server.on('clientError', refuse);

  /**
   * Requests under way on each connection. Node's own list of idle connections leaves out those on which nothing was
   * asked yet, and browsers open such in advance.
   */
  const underWay = new Map<Socket, number>();
  server.on('connection', (socket) => {
    underWay.set(socket, 0);
    socket.once('close', () => underWay.delete(socket));
  });
  let closing: Promise<void> | undefined;
  const ended = (socket: Socket): void => {
    const count = underWay.get(socket);
    if (count === undefined) return;
    underWay.set(socket, count - 1);
    if (closing && count === 1) socket.destroySoon();
  };
  server.on('request', (request, response) => {
    const { socket } = request;
    const before = underWay.get(socket);
    if (before === undefined || before >= limits.requestsAtOnce) {
      socket.destroy();
      return;
    }
    underWay.set(socket, before + 1);
    response.once('close', () => ended(socket));
    if (closing) response.shouldKeepAlive = false;
    app(request, response);
  });
  if (short !== undefined) {
    // Node's own: it is given the connections on which something else is asked.
    const take = server.listeners('connection')[0] as (this: Server, socket: Socket) => void;
    server.off('connection', take);
    server.on('connection', (socket) => {
      answerShort(socket, {
        answers: short,
        firstMs: limits.headersTimeoutMs,
        keepAliveMs: limits.keepAliveMs,
        leave: () => take.call(server, socket),
        begun: () => underWay.set(socket, 1),
        ended: () => ended(socket),
        closing: () => closing !== undefined,
      });
    });
  }

  const address = await listen(server, host, port, limits.backlog);
  return {
    host: address.address,
    port: address.port,
    url: `http://${urlHost(address.address)}:${address.port}`,
    connections: () => underWay.size,
    close() {
      closing ??= drain(server, underWay, limits.drainMs);
      return closing;
    },
  };
}

async function listen(server: Server, host: string, port: number, backlog: number): Promise<AddressInfo> {
  await new Promise<void>((resolve, reject) => {
    const fail = (cause: Error): void => {
      reject(
        new NarswarmError('config-invalid', `cannot listen on ${host} port ${port}: ${cause.message}`, {
          cause,
        }),
      );
    };
    server.once('error', fail);
    server.listen({ host, port, backlog }, () => {
      server.off('error', fail);
      resolve();
    });
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('listening on no address');
  return address;
}

async function drain(server: Server, underWay: Map<Socket, number>, drainMs: number): Promise<void> {
  const timer = setTimeout(() => {
    for (const socket of underWay.keys()) socket.destroy();
  }, drainMs);
  // Stops listening at once, and calls back when the last connection is gone.
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  for (const [socket, count] of underWay) if (count === 0) socket.destroySoon();
  await closed;
  clearTimeout(timer);
}

/**
 * What did not parse gets a short answer. A connection on which no request came in time gets none: Node's own 408
 * would be taken for the answer to a request that crosses it, and Nix gives up on a narinfo answered so.
 */
function refuse(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (!socket.writable || error.code === 'ERR_HTTP_REQUEST_TIMEOUT' || error.code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const status =
    error.code === 'HPE_HEADER_OVERFLOW' ? '431 Request Header Fields Too Large' : '400 Bad Request';
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}

function urlHost(address: string): string {
  if (address === '0.0.0.0') return '127.0.0.1';
  if (address === '::') return '[::1]';
  return isIPv6(address) ? `[${address}]` : address;
}
