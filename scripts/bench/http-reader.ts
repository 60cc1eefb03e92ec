/**
 * The reader of the client's benchmarks, as cheap as one can be, so that it takes little from those that are measured: asks for what it is
 * told on standard input, a line `HOST PORT PATH [FILE]` each time, and says when its first byte and its last came. The body is thrown away,
 * or hashed and written to FILE, which is the least that Nix does with it.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, openSync, writeSync } from 'node:fs';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';

const readBytes = 1024 * 1024;
const headEnd = '\r\n\r\n';

console.log('{}');
for await (const line of createInterface(process.stdin)) {
  const [host = '', port = '', path = '', file] = line.split(' ');
  const take = file === undefined ? undefined : hashAndWrite(file);
  const answer = await read(host, Number(port), path, take?.take).catch((error: Error) => failed(error));
  take?.end();
  console.log(JSON.stringify(answer));
}

interface ReadResult {
  bytes: number;
  /** From the request, which is sent over a connection that stands. */
  firstByteSeconds: number;
  seconds: number;
  error?: string;
}

function failed({ message }: Error): ReadResult {
  return { bytes: 0, firstByteSeconds: 0, seconds: 0, error: message };
}

function hashAndWrite(file: string): { take(chunk: Buffer): void; end(): void } {
  const digest = createHash('sha256');
  const into = openSync(file, 'w');
  return {
    take(chunk) {
      digest.update(chunk);
      writeSync(into, chunk);
    },
    end: () => closeSync(into),
  };
}

async function read(
  host: string,
  port: number,
  path: string,
  use: (chunk: Buffer) => void = () => {},
): Promise<ReadResult> {
  let head = '';
  let length = Number.NaN;
  let bytes = 0;
  let askedMs = 0;
  let firstByteSeconds = Number.NaN;
  const take = (chunk: Buffer): void => {
    if (chunk.length > 0 && bytes === 0) firstByteSeconds = (performance.now() - askedMs) / 1_000;
    bytes += chunk.length;
    use(chunk);
    if (bytes >= length) socket.end();
  };
  const socket = connect({
    host,
    port,
    onread: {
      buffer: Buffer.allocUnsafeSlow(readBytes),
      callback(count, buffer) {
        const chunk = Buffer.from(buffer.buffer, buffer.byteOffset, count);
        if (!Number.isNaN(length)) {
          take(chunk);
          return true;
        }
        const before = head.length;
        head += chunk.toString('latin1');
        const end = head.indexOf(headEnd);
        if (end < 0) return true;
        if (!head.startsWith('HTTP/1.1 200 ')) socket.destroy(new Error(head.split('\r\n', 1)[0]));
        length = Number(/^Content-Length: (\d+)\r$/im.exec(head.slice(0, end + 1))?.[1]);
        take(chunk.subarray(end + headEnd.length - before));
        return true;
      },
    },
  });
  await once(socket, 'connect');
  const closed = once(socket, 'close');
  askedMs = performance.now();
  socket.write(`GET ${path} HTTP/1.1\r\nHost: ${host}:${port}\r\nConnection: close\r\n\r\n`);
  await closed;
  if (bytes !== length) throw new Error(`${bytes} of ${length} bytes came`);
  return { bytes, firstByteSeconds, seconds: (performance.now() - askedMs) / 1_000 };
}
