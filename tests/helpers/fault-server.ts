/** An HTTP server that can be wrong in every way that real ones are: of one file, or of any that it is told of. */

import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { gzipSync } from 'node:zlib';

/** What a path of the server does. `file` is as it should be, with Range. */
export const faults = [
  'file',
  'status-404',
  'status-403',
  'status-500',
  'status-429',
  'hang-before-headers',
  'hang-mid-body',
  'cut-mid-body',
  'cut-before-headers',
  'ignore-range',
  'ignore-range-chunked',
  'wrong-content-range',
  'short-content-range',
  'wrong-total',
  'no-content-range',
  'wrong-length-206',
  'short-chunked-206',
  'long-chunked-206',
  'unasked-206',
  'gzip',
  'redirect-loop',
  'redirect-to-file',
  'huge',
  'huge-announced',
  'dribble',
  'chunked',
  'cut-chunked',
  'long-head',
  'garbage',
] as const;
export type Fault = (typeof faults)[number];

export interface SeenRequest {
  method: string;
  path: string;
  headers: IncomingMessage['headers'];
}

export interface FaultServer {
  readonly url: string;
  readonly port: number;
  readonly bytes: Buffer;
  /** In the order of their arrival. */
  readonly requests: SeenRequest[];
  connections(): number;
  /** Connections ever made to it. */
  accepted(): number;
  /** The URL with this fault, `<url>/<fault>/<name>`. */
  path(fault: Fault, name?: string): string;
  close(): Promise<void>;
}

export interface FaultServerOptions {
  bytes: Buffer;
  /** Where the answer is cut, or hangs; the middle by default. */
  breakAtByte?: number;
  /** Milliseconds between the bytes of `dribble`. */
  dribbleMs?: number;
  /** What to do with which bytes at other paths than those of faults; `undefined` leaves it to `other`. */
  find?: (path: string) => { fault: Fault; bytes: Buffer } | undefined;
  /** Answers what is left. */
  other?: (request: IncomingMessage, response: ServerResponse) => void;
}

export async function openFaultServer(options: FaultServerOptions): Promise<FaultServer> {
  const { dribbleMs = 20 } = options;
  const requests: SeenRequest[] = [];
  const sockets = new Set<Socket>();
  const timers = new Set<NodeJS.Timeout>();
  const server = createServer((request, response) => {
    const path = request.url ?? '';
    requests.push({ method: request.method ?? '', path, headers: request.headers });
    response.on('error', () => undefined);
    const fault = faults.find((each) => path.startsWith(`/${each}/`));
    const found = fault === undefined ? options.find?.(path) : { fault, bytes: options.bytes };
    if (found !== undefined) misbehave(found.fault, found.bytes, request, response);
    else if (options.other !== undefined) options.other(request, response);
    else response.writeHead(404).end('no such path\n');
  });
  let accepted = 0;
  server.on('connection', (socket) => {
    accepted += 1;
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}`;

  function misbehave(fault: Fault, bytes: Buffer, request: IncomingMessage, response: ServerResponse): void {
    const { breakAtByte = bytes.length >> 1 } = options;
    const asked = /^bytes=([0-9]+)-$/.exec(request.headers.range ?? '');
    const from = asked === null ? 0 : Number(asked[1]);
    const size = bytes.length;
    const range = (start: number, end: number, total: number | string): Record<string, string> => ({
      'content-range': `bytes ${start}-${end}/${total}`,
    });
    switch (fault) {
      case 'status-404':
      case 'status-403':
      case 'status-500':
      case 'status-429':
        response.writeHead(Number(fault.slice(-3))).end('a page about an error\n');
        return;
      case 'hang-before-headers':
        return;
      case 'cut-before-headers':
        request.socket.destroy();
        return;
      case 'hang-mid-body':
        sendHead(response, from, size);
        response.write(bytes.subarray(from, Math.max(from, breakAtByte)));
        return;
      case 'cut-mid-body':
        sendHead(response, from, size);
        response.write(bytes.subarray(from, Math.max(from, breakAtByte)), () => request.socket.destroySoon());
        return;
      case 'ignore-range':
        response.writeHead(200, { 'content-length': size }).end(bytes);
        return;
      case 'ignore-range-chunked':
      case 'chunked':
        response.writeHead(200);
        response.write(bytes.subarray(0, 1));
        response.end(bytes.subarray(1));
        return;
      case 'cut-chunked':
        response.writeHead(200);
        response.write(bytes.subarray(0, breakAtByte), () => request.socket.destroySoon());
        return;
      case 'wrong-content-range':
        response.writeHead(206, range(from + 1, size - 1, size)).end(bytes.subarray(from + 1));
        return;
      case 'short-content-range':
        response.writeHead(206, range(from, from, size)).end(bytes.subarray(from, from + 1));
        return;
      case 'wrong-total':
        response.writeHead(206, range(from, size - 1, size + 1)).end(bytes.subarray(from));
        return;
      case 'wrong-length-206':
        response.writeHead(206, { ...range(from, size - 1, size), 'content-length': size - from - 1 });
        response.end(bytes.subarray(from + 1));
        return;
      case 'short-chunked-206':
      case 'long-chunked-206':
        response.writeHead(206, range(from, size - 1, size));
        response.write(bytes.subarray(from, size - 1));
        response.end(fault === 'short-chunked-206' ? undefined : bytes.subarray(0, 10));
        return;
      case 'no-content-range':
        response.writeHead(206, { 'content-length': size - from }).end(bytes.subarray(from));
        return;
      case 'unasked-206':
        response.writeHead(206, range(0, size - 1, size)).end(bytes);
        return;
      case 'gzip':
        response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(bytes));
        return;
      case 'redirect-loop':
        response.writeHead(302, { location: request.url }).end();
        return;
      case 'redirect-to-file':
        response.writeHead(302, { location: `/file/${request.url?.split('/').at(-1)}` }).end();
        return;
      case 'huge':
        response.writeHead(200);
        endless(response);
        return;
      case 'huge-announced':
        response.writeHead(200, { 'content-length': 2 ** 50 });
        endless(response);
        return;
      case 'dribble':
        sendHead(response, from, size);
        dribble(response, bytes, from);
        return;
      case 'long-head':
        response.writeHead(200, { 'x-long': 'x'.repeat(1 << 20) }).end();
        return;
      case 'garbage':
        request.socket.end('this is not HTTP\r\n\r\n');
        return;
      case 'file':
        if (from > 0 && from >= size) {
          response.writeHead(416, { 'content-range': `bytes */${size}` }).end();
          return;
        }
        sendHead(response, from, size);
        response.end(request.method === 'HEAD' ? undefined : bytes.subarray(from));
    }
  }

  function sendHead(response: ServerResponse, from: number, size: number): void {
    const common = { 'accept-ranges': 'bytes', etag: '"fault-server"', 'content-length': size - from };
    if (from === 0) response.writeHead(200, common);
    else response.writeHead(206, { ...common, 'content-range': `bytes ${from}-${size - 1}/${size}` });
  }

  function endless(response: ServerResponse): void {
    const block = Buffer.alloc(64 * 1024);
    const more = (): void => {
      while (!response.destroyed) {
        if (!response.write(block)) {
          response.once('drain', more);
          return;
        }
      }
    };
    more();
  }

  function dribble(response: ServerResponse, bytes: Buffer, from: number): void {
    let at = from;
    const timer = setInterval(() => {
      if (response.destroyed || at >= bytes.length) {
        clearInterval(timer);
        timers.delete(timer);
        response.end();
      } else {
        response.write(bytes.subarray(at, at + 1));
        at += 1;
      }
    }, dribbleMs);
    timers.add(timer);
  }

  return {
    url,
    port,
    bytes: options.bytes,
    requests,
    connections: () => sockets.size,
    accepted: () => accepted,
    path: (fault, name = 'name.nar.xz') => `${url}/${fault}/${name}`,
    async close() {
      for (const timer of timers) clearInterval(timer);
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
