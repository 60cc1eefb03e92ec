/**
 * Upload speed of the seed server: one file in memory (tmpfs) to one peer on loopback, in two processes. The peer asks for everything, keeps
 * a deep pipeline, counts the bytes and throws them away: what is measured is the server.
 */
import { fork } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { narFileName } from '../nar/compression.ts';
import { sha256FromDigest } from '../nar/hash.ts';
import { openSeedServer } from '../swarm/seed/seed-server.ts';
import type { Torrent } from '../swarm/torrent/torrent.ts';
import { pieceLengthFor, TorrentHasher } from '../swarm/torrent/torrent.ts';
import { blockBytes } from '../swarm/wire/limits.ts';
import { WireDecoder } from '../swarm/wire/wire.ts';
import { encodeRequests, encodeSimple } from '../swarm/wire/wire-encode.ts';
import { encodeHandshake, HandshakeReader, makePeerId } from '../swarm/wire/wire-handshake.ts';
import { countOf, readOptions } from './usage.ts';

const usageText = `node scripts/bench-seed.ts [--mib 1024] [--runs 3] [--pipeline 256]

  --mib       size of the file
  --runs      how often it is sent
  --pipeline  requests under way at once`;
const { mib, runs, pipeline, servePath } = readOptions(usageText, () => {
  const { values } = parseArgs({
    options: {
      mib: { type: 'string', default: '1024' },
      runs: { type: 'string', default: '3' },
      pipeline: { type: 'string', default: '256' },
      serve: { type: 'string' },
    },
  });
  return {
    mib: countOf('mib', values.mib),
    runs: countOf('runs', values.runs),
    pipeline: countOf('pipeline', values.pipeline),
    servePath: values.serve,
  };
});
const lengthBytes = mib * 1024 * 1024;
const gib = lengthBytes / 1024 ** 3;

if (servePath !== undefined) await serve(servePath);
else await measure();

/** The server's process: tells its parent where it listens, and its CPU time when asked. */
async function serve(path: string): Promise<void> {
  const file = await open(path);
  const hasher = new TorrentHasher(lengthBytes);
  for (let at = 0; at < lengthBytes; at += 1 << 20) {
    const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(1 << 20), 0, 1 << 20, at);
    hasher.write(buffer.subarray(0, bytesRead));
  }
  const torrent = hasher.finish(narFileName(sha256FromDigest(createHash('sha256').digest()), 'none'));
  const handle = {
    torrent,
    async read(position: number, bytes: number): Promise<Buffer> {
      const buffer = Buffer.allocUnsafe(bytes);
      const { bytesRead } = await file.read(buffer, 0, bytes, position);
      return buffer.subarray(0, bytesRead);
    },
    async close(): Promise<void> {},
  };
  const source = {
    mayHold: (infoHash: string) => infoHash === torrent.infoHash,
    open: async (infoHash: string) => (infoHash === torrent.infoHash ? handle : undefined),
  };
  const server = await openSeedServer({ host: '127.0.0.1', port: 0, source });
  process.on('message', () => process.send?.({ cpu: process.cpuUsage(), rss: process.memoryUsage.rss() }));
  process.send?.({ port: server.port, infoHash: torrent.infoHash });
  process.once('disconnect', () => process.exit(0));
}

async function measure(): Promise<void> {
  const dir = await mkdtemp(join('/dev/shm', 'narswarm-bench-')).catch(() =>
    mkdtemp(join(tmpdir(), 'narswarm-bench-')),
  );
  const path = join(dir, 'file');
  const file = await open(path, 'w');
  const chunk = randomBytes(1 << 20);
  for (let at = 0; at < lengthBytes; at += chunk.length)
    await file.write(chunk.subarray(0, lengthBytes - at));
  await file.close();
  const child = fork(import.meta.filename, ['--serve', path, '--mib', String(mib)]);
  try {
    const [{ port, infoHash }] = await once(child, 'message');
    for (let run = 0; run < runs; run++) {
      const before = await usage(child);
      const own = process.cpuUsage();
      const started = performance.now();
      await download(port, infoHash);
      const seconds = (performance.now() - started) / 1000;
      const after = await usage(child);
      const reader = process.cpuUsage(own);
      console.log(
        `${(lengthBytes / seconds / 1e6).toFixed(0)} MB/s  server ${(cpuSeconds(after.cpu, before.cpu) / gib).toFixed(2)} CPU s/GiB` +
          `  reader ${(cpuSeconds(reader) / gib).toFixed(2)} CPU s/GiB  server RSS ${(after.rss / 2 ** 20).toFixed(0)} MiB`,
      );
    }
  } finally {
    child.disconnect();
    await once(child, 'exit');
    await rm(dir, { recursive: true });
  }
}

interface Usage {
  cpu: NodeJS.CpuUsage;
  rss: number;
}

async function usage(child: ReturnType<typeof fork>): Promise<Usage> {
  child.send('usage');
  const [answer] = await once(child, 'message');
  return answer;
}

function cpuSeconds(now: NodeJS.CpuUsage, before = { user: 0, system: 0 }): number {
  return (now.user + now.system - before.user - before.system) / 1e6;
}

/** Reads everything once, in order, into one reused buffer. */
function download(port: number, infoHash: Torrent['infoHash']): Promise<void> {
  const pieceLength = pieceLengthFor(lengthBytes);
  let asked = 0;
  let received = 0;
  let waiting = 0;
  const handshake = new HandshakeReader();
  return new Promise((resolve, reject) => {
    const ask = (): void => {
      if (waiting > pipeline / 2) return;
      const blocks = [];
      for (; waiting < pipeline && asked < lengthBytes; waiting++) {
        const begin = asked % pieceLength;
        const bytes = Math.min(blockBytes, lengthBytes - asked, pieceLength - begin);
        blocks.push({ index: Math.floor(asked / pieceLength), begin, lengthBytes: bytes });
        asked += bytes;
      }
      if (blocks.length > 0) socket.write(encodeRequests(blocks));
    };
    let greeted = false;
    let unchoked = false;
    const decoder = new WireDecoder(
      {
        unchoke() {
          unchoked = true;
          ask();
        },
        pieceData(bytes) {
          received += bytes.length;
        },
        pieceEnd() {
          waiting--;
        },
      },
      { pieces: Math.ceil(lengthBytes / pieceLength) },
    );
    const socket = connect({
      host: '127.0.0.1',
      port,
      noDelay: true,
      onread: {
        buffer: Buffer.allocUnsafe(512 * 1024),
        callback(count, buffer) {
          let bytes = Buffer.from(buffer.buffer, buffer.byteOffset, count);
          if (!greeted) {
            const done = handshake.push(bytes);
            if (done === undefined) return true;
            greeted = true;
            bytes = Buffer.from(done.rest);
          }
          decoder.push(bytes);
          if (unchoked) ask();
          if (received === lengthBytes) socket.destroy();
          return true;
        },
      },
    });
    socket.on('error', reject);
    socket.on('close', () =>
      received === lengthBytes ? resolve() : reject(new Error(`got ${received} bytes`)),
    );
    socket.write(
      Buffer.concat([encodeHandshake({ infoHash, peerId: makePeerId() }), encodeSimple('interested')]),
    );
  });
}
