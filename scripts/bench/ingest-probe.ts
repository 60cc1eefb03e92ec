/** A peer that comes again and again while a seeder is busy with something else, each time as if it had never been there. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { narFileName } from '../../nar/compression.ts';
import { sha256FromDigest } from '../../nar/hash.ts';
import { TorrentFetch } from '../../swarm/fetch/fetcher.ts';
import { TorrentHasher } from '../../swarm/torrent/torrent.ts';

/** Between two visits: often enough to meet every stall that lasts, too seldom to be a load. */
const pauseMs = 50;

export interface Probe {
  /** After `stop`: how long each visit took that got the file, in milliseconds. */
  waitsMs: Promise<number[]>;
  stop(): void;
}

/** Fetches `nar` from the seeder at `port`, which may not listen yet nor know the file. */
export function probePeer(nar: Buffer, port: number): Probe {
  const hasher = new TorrentHasher(nar.length);
  hasher.write(nar);
  const hash = sha256FromDigest(createHash('sha256').update(nar).digest());
  const torrent = hasher.finish(narFileName(hash, 'none'));
  const over = new AbortController();
  const visit = async (): Promise<void> => {
    const fetch = new TorrentFetch({ torrent, stallMs: 5_000 });
    fetch.addPeers([{ host: '127.0.0.1', port }]);
    fetch.noMorePeers();
    for await (const _ of fetch);
  };
  const visits = async (): Promise<number[]> => {
    const waitsMs: number[] = [];
    while (!over.signal.aborted) {
      const startedMs = performance.now();
      const got = await visit().then(
        () => true,
        () => false,
      );
      if (got) waitsMs.push(performance.now() - startedMs);
      await sleep(pauseMs);
    }
    return waitsMs;
  };
  return { waitsMs: visits(), stop: () => over.abort() };
}

/** A port that nobody has at the moment. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}
