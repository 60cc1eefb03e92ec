/**
 * A client of the swarm benchmark: shares, is told to begin by a line, fetches one NAR file through its own HTTP side as Nix would, says how it
 * went, or how far it came when a second line says that the time is up, and goes on sharing until its input ends.
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
let receivedBytes = 0;
// A daemon that has been at work before: what loads when it is first used is not measured.
await fetchNar(other);
process.stdin.resume();
console.log('ready');
await once(process.stdin, 'data');
const startedMs = performance.now();
const cpuBefore = process.cpuUsage();
const timeIsUp = new AbortController();
process.stdin.once('data', () => timeIsUp.abort());
const whole = await fetchNar(storeHash, timeIsUp.signal).then(
  () => true,
  (error: unknown) => {
    if (!timeIsUp.signal.aborted) throw error;
    return false;
  },
);
const seconds = (performance.now() - startedMs) / 1_000;
const { user, system } = process.cpuUsage(cpuBefore);
const { share } = client.status() as unknown as { share: { uploadedBytes: number } };
const { uploadedBytes } = share;
const cpuSeconds = (user + system) / 1e6;
console.log(JSON.stringify({ whole, seconds, receivedBytes, uploadedBytes, cpuSeconds }));
if (!process.stdin.readableEnded) await once(process.stdin, 'end');
await client.close();

async function fetchNar(hash: string, signal?: AbortSignal): Promise<void> {
  const narInfo = await (await fetch(`${client.url}/${hash}.narinfo`)).text();
  const url = /^URL: (.*)$/m.exec(narInfo)?.[1] ?? '';
  const size = Number(/^FileSize: (.*)$/m.exec(narInfo)?.[1]);
  const answer = await fetch(`${client.url}/${url}`, { ...(signal && { signal }) });
  receivedBytes = 0;
  for await (const chunk of answer.body ?? []) receivedBytes += chunk.length;
  if (receivedBytes !== size) throw new Error(`${receivedBytes} of ${size} bytes came`);
}
