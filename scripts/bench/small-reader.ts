/**
 * What Nix does with a cache, as cheap as it can be done: over 25 connections that stay open, all narinfos of a closure first, then all NAR
 * files, each path after those that it references. For each line `HOST PORT FILE` on standard input; FILE lists narinfos in that order.
 */
import { readFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';

/** `http-connections` of Nix. */
const connectionsMax = 25;
const readBytes = 64 * 1024;

export interface SmallRead {
  narInfoSeconds: number;
  narSeconds: number;
  /** Of NAR files. */
  bytes: number;
  error?: string;
}

async function readAll(host: string, port: number, file: string): Promise<SmallRead> {
  const names = (await readFile(file, 'utf8')).trim().split('\n');
  const connections = Array.from({ length: connectionsMax }, () => new Connection(host, port));
  try {
    const startMs = performance.now();
    const narInfos = await getAll(connections, names);
    const nars = narInfos.map((text) => {
      const [, url = ''] = /^URL: (.*)$/m.exec(text.toString('latin1')) ?? [];
      const [, size = ''] = /^FileSize: (.*)$/m.exec(text.toString('latin1')) ?? [];
      return { url, size: Number(size) };
    });
    const middleMs = performance.now();
    const bodies = await getAll(
      connections,
      nars.map(({ url }) => url),
    );
    const endMs = performance.now();
    const wrong = nars.findIndex(({ size }, index) => bodies[index]?.length !== size);
    if (wrong >= 0) throw new Error(`${nars[wrong]?.url} has ${bodies[wrong]?.length} bytes`);
    return {
      narInfoSeconds: (middleMs - startMs) / 1_000,
      narSeconds: (endMs - middleMs) / 1_000,
      bytes: nars.reduce((sum, { size }) => sum + size, 0),
    };
  } finally {
    for (const connection of connections) connection.close();
  }
}

/** Each connection takes the next one when it has the last. */
async function getAll(connections: readonly Connection[], paths: readonly string[]): Promise<Buffer[]> {
  const bodies: Buffer[] = [];
  const waiting = paths.entries();
  const worker = async (connection: Connection): Promise<void> => {
    for (const [index, path] of waiting) bodies[index] = await connection.get(path);
  };
  await Promise.all(connections.map(worker));
  return bodies;
}

/** HTTP/1.1 with keep-alive and Content-Length, one request at a time. */
class Connection {
  readonly #socket: Socket;
  readonly #host: string;
  #head = '';
  #body: Buffer | undefined;
  #filled = 0;
  #resolve: ((body: Buffer) => void) | undefined;
  #reject: ((error: Error) => void) | undefined;

  constructor(host: string, port: number) {
    this.#host = `${host}:${port}`;
    this.#socket = connect({
      ...{ host, port, noDelay: true },
      onread: {
        buffer: Buffer.allocUnsafeSlow(readBytes),
        callback: (count, buffer) => {
          this.#take(Buffer.from(buffer.buffer, buffer.byteOffset, count));
          return true;
        },
      },
    });
    this.#socket.on('error', (error) => this.#fail(error));
    this.#socket.on('close', () => this.#fail(new Error('the connection was closed')));
  }

  get(path: string): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
      this.#socket.write(`GET /${path} HTTP/1.1\r\nHost: ${this.#host}\r\n\r\n`);
    });
  }

  close(): void {
    this.#socket.destroy();
  }

  #take(chunk: Buffer): void {
    let bytes = chunk;
    if (this.#body === undefined) {
      const before = this.#head.length;
      this.#head += chunk.toString('latin1');
      const end = this.#head.indexOf('\r\n\r\n');
      if (end < 0) return;
      if (!this.#head.startsWith('HTTP/1.1 200 ')) this.#fail(new Error(this.#head.split('\r\n', 1)[0]));
      const length = Number(/^Content-Length: (\d+)\r$/im.exec(this.#head.slice(0, end + 1))?.[1]);
      bytes = chunk.subarray(end + 4 - before);
      this.#head = '';
      this.#body = Buffer.allocUnsafe(length);
      this.#filled = 0;
    }
    this.#filled += bytes.copy(this.#body, this.#filled);
    if (this.#filled < this.#body.length) return;
    const body = this.#body;
    this.#body = undefined;
    this.#resolve?.(body);
  }

  #fail(error: Error): void {
    this.#reject?.(error);
    this.#socket.destroy();
  }
}

console.log('{}');
for await (const line of createInterface(process.stdin)) {
  const [host = '', port = '', file = ''] = line.split(' ');
  const failed = ({ message }: Error): SmallRead => ({
    ...{ narInfoSeconds: 0, narSeconds: 0, bytes: 0 },
    error: message,
  });
  console.log(JSON.stringify(await readAll(host, Number(port), file).catch(failed)));
}
