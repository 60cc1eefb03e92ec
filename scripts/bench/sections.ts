/** What `npm run bench` can measure, in the order in which it does. A section is imported only when it runs. */
import type { Row } from './table.ts';

export interface SectionOptions {
  /** A directory of the benchmark's own, in memory where the system has /dev/shm. */
  dir: string;
  /** Of each thing measured; the median counts. */
  runs: number;
  /** NAR files in the catalog of the sections that are about scale. */
  nars: number;
}

export interface Section {
  about: string;
  /** May take minutes. Leaves nothing behind but what is in `dir`. */
  run(options: SectionOptions): Promise<Row[]>;
}

export const sections: Readonly<Record<string, Section>> = {
  large: {
    about: '1 GiB from peer to peer: speed and CPU, beside libtorrent, webtorrent and nginx',
    run: async (options) => (await import('./downloads.ts')).large(options),
  },
  small: {
    about: '300 small files, beside webtorrent and nginx',
    run: async (options) => (await import('./downloads.ts')).small(options),
  },
  'client-large': {
    about:
      'one NAR of 1 GiB through the client from one peer, here and 50 ms away, beside nginx to the same reader',
    run: async (options) => (await import('./client-large.ts')).clientLarge(options),
  },
  scale: {
    about: 'a seeder with --nars NAR files: start, memory, cold torrents, floods',
    run: async ({ nars }) => (await import('./scale.ts')).scaleRows({ rows: nars }),
  },
  tracker: {
    about:
      'announces a second over UDP and HTTP, beside bittorrent-tracker and opentracker; memory of a peer',
    run: async (options) => (await import('./tracker.ts')).trackerRows(options),
  },
  dht: {
    about: 'the DHT node: what an announce and the child process cost, and how fast packets are judged',
    run: async () => (await import('./dht.ts')).dht(),
  },
  ingest: {
    about: 'a directory of 1 GiB of NARs into the catalog, beside xz or zstd and sha256sum on as many cores',
    run: async (options) => (await import('./ingest.ts')).compressed(options),
  },
  'ingest-small': {
    about: '100,000 NARs of 20 KB into the catalog, and again when nothing is new',
    run: async (options) => (await import('./ingest.ts')).small(options),
  },
  follow: {
    about: 'a signed catalog of 1,000,000 records followed from nothing, and 50,000 more',
    run: async (options) => (await import('./follow.ts')).follow(options),
  },
  packs: {
    about: 'a pack of 8,000 small NAR files: closing it, and how fast it leaves',
    run: async (options) => (await import('./packs.ts')).packs(options),
  },
  narinfo: {
    about: 'narinfos of a view that a client answers in a second',
    run: async (options) => (await import('./narinfo.ts')).narInfo(options),
  },
  'client-small': {
    about:
      '1,500 small NAR files through the client, 50 ms away: with a seeder, and with none, dead or lying ones',
    run: async (options) => (await import('./client-small.ts')).clientSmall(options),
  },
  swarm: {
    about: '20 clients that share fetch one NAR file from a seeder that is capped after one copy',
    run: async ({ dir }) => (await import('./swarm.ts')).swarm({ dir }),
  },
};
