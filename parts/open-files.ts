/**
 * How many files and sockets the system lets this process have open, and how they are shared out.
 *
 * Each part keeps within its own share, so that none of them takes the last descriptor of another: a server that cannot accept, or a
 * database that cannot open its log, because peers hold everything.
 */

import { readFile } from 'node:fs/promises';
import { type SeedLimits, seedLimits } from '../swarm/wire/limits.ts';
import { defaultHttpLimits, type HttpLimits } from '../web/server.ts';

/** For what is always open: database, threads, listeners, the DHT's process, and the files that are being verified. */
const reserved = 64;
/** NAR files that packs are read from: many small ones, each for a moment. */
const packFiles = 128;
/** A connection that downloads over HTTP has a NAR file open, too. */
const perHttpConnection = 2;

/** What a client fetches with: packs, upstreams and the peers of a few NAR files at once; half of what there is, if that is less. */
const clientOwn = 512;
/** Connections that Nix opens: so many are let in however few files may be open. */
const nixConnections = 25;
/** Connections over HTTP that are enough for the machine that a client serves. */
const clientEnough = 100;

export interface OpenFileShares {
  seed: Pick<SeedLimits, 'connectionsMax' | 'connectionsPerAddressMax' | 'openTorrentsMax'>;
  http: Pick<HttpLimits, 'connections'>;
  packFiles: number;
  /** False when the system allows less than the defaults want. */
  enough: boolean;
}

/** `max`: descriptors that the process may have; `undefined` where that could not be told, which leaves the defaults as they are. */
export function shareOpenFiles(max: number | undefined): OpenFileShares {
  return shared(max, reserved);
}

/** The same for a client, which makes connections itself, and which Nix must always reach. */
export function shareClientOpenFiles(max: number | undefined): OpenFileShares {
  const own = Math.min(clientOwn, (max ?? Number.POSITIVE_INFINITY) / 2);
  const shares = shared(max, reserved + own);
  const connections = Math.max(nixConnections, shares.http.connections);
  return { ...shares, http: { connections }, enough: connections >= clientEnough };
}

function shared(max: number | undefined, without: number): OpenFileShares {
  const { connectionsMax, connectionsPerAddressMax, openTorrentsMax } = seedLimits;
  const { connections } = defaultHttpLimits;
  const wanted = connectionsMax + openTorrentsMax + connections * perHttpConnection + packFiles;
  const part = Math.min(1, ((max ?? Number.POSITIVE_INFINITY) - without) / wanted);
  const share = (limit: number): number => Math.max(2, Math.floor(limit * part));
  const peers = share(connectionsMax);
  return {
    seed: {
      connectionsMax: peers,
      // However few there are, no single address gets them all.
      connectionsPerAddressMax: Math.min(connectionsPerAddressMax, Math.floor(peers / 2)),
      openTorrentsMax: share(openTorrentsMax),
    },
    http: { connections: share(connections) },
    packFiles: share(packFiles),
    enough: part === 1,
  };
}

/** `undefined` where the system does not tell. Node raises its soft limit to the hard one when it starts. */
export async function openFilesMax(): Promise<number | undefined> {
  const text = await readFile('/proc/self/limits', 'latin1').catch(() => '');
  const [, soft] = /^Max open files\s+(\d+)/m.exec(text) ?? [];
  return soft === undefined ? undefined : Number(soft);
}
