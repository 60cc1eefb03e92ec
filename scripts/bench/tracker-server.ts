/**
 * A tracker under measurement, in a process of its own:
 *
 *   tracker-server.ts own DIR TORRENTS                   the seeder as it is, with a catalog in DIR
 *   tracker-server.ts bittorrent-tracker DIR TORRENTS    the server of that package, with the same torrents allowed
 *
 * Prints its ports as one line of JSON, and ends with its input. What limits one address is set aside: all load comes from one.
 */
import { join } from 'node:path';
import { openCatalog } from '../../catalog/catalog.ts';
import { openSeeder } from '../../seeder/main.ts';
import { row } from '../../tests/catalog/made-rows.ts';
import { makeLogger } from '../../web/log.ts';
import { cacheKey, catalogKey } from './made-rows.ts';
import { inputEnd } from './peer-process.ts';

const [kind, dir = '', torrentsText] = process.argv.slice(2);
const torrents = Number(torrentsText);
const host = '127.0.0.1';

if (kind === 'own') await own();
else await theirs();

async function own(): Promise<void> {
  const catalog = openCatalog(join(dir, 'catalog.sqlite'));
  catalog.transaction(() => {
    for (let number = 0; number < torrents; number++) catalog.accept(row(number));
  });
  catalog.close();
  const seeder = await openSeeder({
    dataDir: dir,
    sources: [],
    trustedKeys: [cacheKey.publicKey],
    secretKey: catalogKey,
    http: { host, port: 0 },
    peers: { host, port: 0 },
    trackerUdp: { host, port: 0 },
    trackerLimits: {
      requestsPerAddressAndMinute: Number.MAX_SAFE_INTEGER,
      peersPerAddress: Number.MAX_SAFE_INTEGER,
      peersPerTorrentAndAddress: Number.MAX_SAFE_INTEGER,
    },
    logger: makeLogger({ level: 'warn' }),
  });
  console.log(JSON.stringify({ http: Number(new URL(seeder.url).port), udp: portOf(seeder.udpTrackerUrl) }));
  await inputEnd();
  await seeder.close();
}

async function theirs(): Promise<void> {
  const { Server } = await import('bittorrent-tracker');
  const allowed = new Set<string>(
    Array.from({ length: torrents }, (_, number) => row(number).entry.infoHash),
  );
  const server = new Server({
    ws: false,
    stats: false,
    filter: (infoHash, _params, decide) => decide(allowed.has(infoHash) ? null : new Error('unknown')),
  });
  const listening = new Promise((resolve) => server.once('listening', resolve));
  server.listen(0, { http: host, udp: host, udp6: '::1' });
  await listening;
  console.log(JSON.stringify({ http: server.http.address().port, udp: server.udp.address().port }));
  await inputEnd();
  process.exit();
}

function portOf(url: string | undefined): number {
  return Number(url?.split(':').at(-1));
}
