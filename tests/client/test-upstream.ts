/** A binary cache, on loopback unless told otherwise, that misbehaves as it is told. */

import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { MadeNar } from './made-nar.ts';

export type Handler = (request: IncomingMessage, response: ServerResponse) => void;

export class TestUpstream {
  readonly files = new Map<string, Buffer>();
  /** Called instead of sending a file, when it returns true. */
  intercept: ((request: IncomingMessage, response: ServerResponse) => boolean) | undefined;
  readonly requests: { method: string; url: string; range: string | undefined }[] = [];
  /** Of each request. */
  readonly authorizations: (string | undefined)[] = [];
  /** Bytes of NAR bodies given to connections. */
  narBytes = 0;
  readonly #server: Server;
  url = '';

  private constructor() {
    this.#server = createServer((request, response) => this.#answer(request, response));
    this.#server.on('connection', (socket) => {
      this.connections++;
      socket.once('close', () => this.connections--);
    });
  }

  static async open(nars: MadeNar[] = [], host = '127.0.0.1'): Promise<TestUpstream> {
    const upstream = new TestUpstream();
    upstream.put('nix-cache-info', 'StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n');
    for (const nar of nars) upstream.add(nar);
    await upstream.listen(0, host);
    return upstream;
  }

  async listen(port: number, host = '127.0.0.1'): Promise<void> {
    this.#server.listen(port, host);
    await once(this.#server, 'listening');
    this.url = `http://${host}:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Open ones. */
  connections = 0;

  put(path: string, content: string | Buffer): void {
    this.files.set(`/${path}`, Buffer.from(content));
  }

  add(nar: MadeNar): void {
    this.put(`${nar.storeHash}.narinfo`, nar.narInfo.text);
    if (!nar.narInfo.url.includes('://')) this.put(nar.narInfo.url, nar.bytes);
  }

  async close(): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    if (this.#server.listening) await once(this.#server, 'close');
  }

  requestsFor(path: string): number {
    return this.requests.filter(({ url }) => url === `/${path}`).length;
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { method = '', url = '', headers } = request;
    this.authorizations.push(headers.authorization);
    this.requests.push({ method, url, range: headers.range });
    if (this.intercept?.(request, response) === true) return;
    const bytes = this.files.get(url);
    if (bytes === undefined) {
      response.writeHead(404).end('not found');
      return;
    }
    const start = Number(/^bytes=(\d+)-$/.exec(headers.range ?? '')?.[1] ?? 0);
    const isNar = url.includes('nar/');
    response.writeHead(start > 0 ? 206 : 200, {
      'content-length': bytes.length - start,
      ...(start > 0 ? { 'content-range': `bytes ${start}-${bytes.length - 1}/${bytes.length}` } : {}),
    });
    if (method === 'HEAD') response.end();
    else {
      if (isNar) this.narBytes += bytes.length - start;
      response.end(bytes.subarray(start));
    }
  }
}
