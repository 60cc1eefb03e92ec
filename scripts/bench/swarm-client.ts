/**
 * A client of the swarm benchmark: shares, is told to begin by a line, fetches one NAR file through its own HTTP side as Nix would, says how it
 * went, and goes on sharing until its input ends.
 *
 *   swarm-client.ts DATA ADDRESS CATALOG CATALOG_KEY TRUSTED_KEY STORE_HASH OTHER_STORE_HASH
 */
import { once } from 'node:events';
import { openClient } from '../../client/main.ts';
import { parsePublicKey } from '../../nar/signature.ts';
import { makeLogger } from '../../web/log.ts';

const [
  dataDir = '',
  address = '',
  catalog = '',
  catalogKey = '',
  trustedKey = '',
  storeHash = '',
  other = '',
] = process.argv.slice(2);

const client = await openClient({
  dataDir,
  upstreams: [],
  noUpstream: true,
  catalogs: [catalog],
  catalogKeys: [parsePublicKey(catalogKey)],
  trustedKeys: [parsePublicKey(trustedKey)],
  http: { host: '127.0.0.1', port: 0 },
  peers: { host: address, port: 0 },
  cacheSizeBytes: 2 ** 40,
  share: 'on',
  logger: makeLogger({ level: 'warn' }),
});
// A daemon that has been at work before: what loads when it is first used is not measured.
await fetchNar(other);
process.stdin.resume();
console.log('ready');
await once(process.stdin, 'data');
const startedMs = performance.now();
await fetchNar(storeHash);
const seconds = (performance.now() - startedMs) / 1_000;
const { user, system } = process.cpuUsage();
const { share } = client.status() as unknown as { share: { uploadedBytes: number } };
console.log(
  JSON.stringify({ seconds, uploadedBytes: share.uploadedBytes, cpuSeconds: (user + system) / 1e6 }),
);
if (!process.stdin.readableEnded) await once(process.stdin, 'end');
await client.close();

async function fetchNar(hash: string): Promise<void> {
  const narInfo = await (await fetch(`${client.url}/${hash}.narinfo`)).text();
  const url = /^URL: (.*)$/m.exec(narInfo)?.[1] ?? '';
  const size = Number(/^FileSize: (.*)$/m.exec(narInfo)?.[1]);
  const answer = await fetch(`${client.url}/${url}`);
  let bytes = 0;
  for await (const chunk of answer.body ?? []) bytes += chunk.length;
  if (bytes !== size) throw new Error(`${bytes} of ${size} bytes came`);
}
