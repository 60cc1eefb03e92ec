/**
 * A seed server in a process of its own, whose memory can be looked at: `hostile-child.ts LIMITS`, with --expose-gc. It says where it
 * listens and what it holds, and answers each message with how it is doing.
 */

import { createHash } from 'node:crypto';
import { narFileName } from '../../nar/compression.ts';
import { sha256FromDigest } from '../../nar/hash.ts';
import { openSeedServer, type SeedStatus } from '../../swarm/seed/seed-server.ts';
import { type Torrent, TorrentHasher } from '../../swarm/torrent/torrent.ts';
import type { SeedLimits } from '../../swarm/wire/limits.ts';
import { hostileContent, hostileFileBytes } from './hostile-content.ts';

export interface ChildReady {
  port: number;
  /** Hexadecimal digits where JSON has no bytes. */
  torrent: Omit<Torrent, 'pieces'> & { pieces: string };
}

export interface ChildState {
  status: SeedStatus;
  /** After everything was collected. */
  heapBytes: number;
  bufferBytes: number;
  residentBytes: number;
  /** Sockets, timers and the like that keep a process alive. */
  handles: number;
  faults: string[];
}

await serve(JSON.parse(process.argv[2] ?? '{}') as Partial<SeedLimits>);

async function serve(limits: Partial<SeedLimits>): Promise<void> {
  const bytes = hostileContent(hostileFileBytes);
  const hasher = new TorrentHasher(bytes.length);
  hasher.write(bytes);
  const digest = createHash('sha256').update(bytes).digest();
  const torrent = hasher.finish(narFileName(sha256FromDigest(digest), 'none'));
  const faults: string[] = [];
  const server = await openSeedServer({
    host: '0.0.0.0',
    port: 0,
    limits,
    // Blocks are copies, as from a disk: what the server holds of them counts.
    source: {
      mayHold: (infoHash) => infoHash === torrent.infoHash,
      open: async (infoHash) =>
        infoHash === torrent.infoHash
          ? {
              torrent,
              read: async (position, lengthBytes) =>
                Buffer.from(bytes.subarray(position, position + lengthBytes)),
              close: async () => {},
            }
          : undefined,
    },
    onFault: (error) => faults.push(String(error)),
  });
  process.on('message', () => {
    globalThis.gc?.();
    const { heapUsed, arrayBuffers, rss } = process.memoryUsage();
    const state: ChildState = {
      status: server.status(),
      heapBytes: heapUsed,
      bufferBytes: arrayBuffers,
      residentBytes: rss,
      handles: process.getActiveResourcesInfo().length,
      faults,
    };
    process.send?.(state);
  });
  process.on('disconnect', () => void server.close());
  const ready: ChildReady = {
    port: server.port,
    torrent: { ...torrent, pieces: torrent.pieces.toString('hex') },
  };
  process.send?.(ready);
}
