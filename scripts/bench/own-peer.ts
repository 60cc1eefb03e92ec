/**
 * Our own side of the benchmark, and the HTTP reader that it is compared with:
 *
 *   own-peer.ts seed DIR                       every .torrent in DIR, whose files are there as well
 *   own-peer.ts get DIR PORT JOBS [OUT]        from the seed at PORT, JOBS at a time, written below OUT or thrown away
 *   own-peer.ts http DIR PORT JOBS [OUT]       the same over HTTP
 */
import { once } from 'node:events';
import { open, readdir, readFile } from 'node:fs/promises';
import { Agent, get as httpGet, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import type { InfoHash } from '../../nar/hash.ts';
import { TorrentFetch } from '../../swarm/fetch/fetcher.ts';
import { HashThread } from '../../swarm/fetch/hash-thread.ts';
import { openSeedServer } from '../../swarm/seed/seed-server.ts';
import type { Torrent } from '../../swarm/torrent/torrent.ts';
import { parseTorrentFile } from '../../swarm/torrent/torrent-file.ts';
import { inputEnd, measureOnDemand } from './peer-process.ts';

const [role, dir = '', portText, jobsText, out] = process.argv.slice(2);
const port = Number(portText);
const torrents = await readTorrents();

/** As a client has it. */
const hashes = new HashThread();

switch (role) {
  case 'seed':
    await seed();
    break;
  case 'get':
    await measureOnDemand(() => all(fetchOne));
    break;
  case 'http':
    await http();
    break;
  default:
    throw new Error('seed, get or http?');
}

async function readTorrents(): Promise<Torrent[]> {
  const names = (await readdir(dir)).filter((name) => name.endsWith('.torrent')).sort();
  return Promise.all(names.map(async (name) => parseTorrentFile(await readFile(join(dir, name)))));
}

async function seed(): Promise<void> {
  const held = new Map<InfoHash, Torrent>(torrents.map((torrent) => [torrent.infoHash, torrent]));
  const source = {
    mayHold: (infoHash: InfoHash) => held.has(infoHash),
    async open(infoHash: InfoHash) {
      const torrent = held.get(infoHash);
      if (torrent === undefined) return undefined;
      const file = await open(join(dir, torrent.name));
      return {
        torrent,
        async read(position: number, lengthBytes: number, memory?: Buffer): Promise<Buffer> {
          const into = memory ?? Buffer.allocUnsafe(lengthBytes);
          const { buffer, bytesRead } = await file.read(into, 0, lengthBytes, position);
          return buffer.subarray(0, bytesRead);
        },
        close: () => file.close(),
      };
    },
  };
  const server = await openSeedServer({ host: '127.0.0.1', port: 0, source });
  console.log(JSON.stringify({ port: server.port }));
  await inputEnd();
  await server.close();
}

/** Every torrent, so many at a time. */
async function all(fetch: (torrent: Torrent, write: Write) => Promise<void>): Promise<void> {
  const waiting = [...torrents];
  const work = async (): Promise<void> => {
    for (let torrent = waiting.shift(); torrent !== undefined; torrent = waiting.shift()) {
      if (out === undefined) {
        await fetch(torrent, async () => {});
        continue;
      }
      const file = await open(join(out, torrent.name), 'w');
      await fetch(torrent, async (bytes) => void (await file.write(bytes)));
      await file.close();
    }
  };
  await Promise.all(Array.from({ length: Number(jobsText) }, work));
}

type Write = (bytes: Buffer) => Promise<void>;

async function fetchOne(torrent: Torrent, write: Write): Promise<void> {
  const fetch = new TorrentFetch({ torrent, stallMs: 5_000, hashes });
  fetch.addPeers([{ host: '127.0.0.1', port }]);
  fetch.noMorePeers();
  for await (const piece of fetch) {
    await write(piece.bytes);
    fetch.recycle(piece);
  }
}

async function http(): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: Number(jobsText) });
  const readOne = async ({ name, length }: Torrent, write: Write): Promise<void> => {
    const asked = httpGet({ host: '127.0.0.1', port, path: `/${name}`, agent });
    const [response]: IncomingMessage[] = await once(asked, 'response');
    let received = 0;
    for await (const bytes of response ?? []) {
      received += bytes.length;
      await write(bytes);
    }
    if (received !== length) throw new Error(`${received} of ${length} bytes over HTTP`);
  };
  await measureOnDemand(() => all(readOne));
  agent.destroy();
}
