/** What a client says of itself, in words and figures, after it fetched from peers, over HTTP and from what it held. */

import t from 'tap';
import { runCommand } from '../cli/run-command.ts';
import { fetchNar, get, Lab, until } from './lab.ts';
import { madeNar } from './made-nar.ts';

const shared = madeNar({ name: 'status-shared', sizeBytes: 2_000_000 });
const plain = madeNar({ name: 'status-plain', sizeBytes: 100_000 });

t.test('status, page, metrics and why agree on what came from where', async (t) => {
  const lab = await Lab.open(t);
  const catalog = await lab.catalog([shared]);
  const upstream = await lab.upstream([plain]);
  const client = await lab.client([upstream], [catalog]);
  for (const nar of [shared, plain]) t.ok((await fetchNar(client, nar)).body.equals(nar.bytes));
  const status = () =>
    client.status() as unknown as {
      summary: string[];
      cache: { files: number };
      sources: { source: string; usedBytes: number }[];
    };
  await until(() => status().cache.files === 2);
  await fetchNar(client, plain);
  const { summary, sources } = status();
  t.match(summary[0], /^3 NARs: 1 from peers, 1 over HTTP, 1 held/);
  t.ok(summary.includes('Nothing is shared.'));
  t.ok(summary.includes(`Upstream: ${upstream.url} is asked.`));
  const used = new Map(sources.map(({ source, usedBytes }) => [source, usedBytes]));
  t.equal(used.get('swarm'), shared.bytes.length);
  t.equal(used.get(upstream.url), plain.bytes.length);

  const metrics = (await get(client.url, '_narswarm/metrics')).body.toString();
  t.match(metrics, `narswarm_source_used_bytes{source="swarm"} ${shared.bytes.length}\n`);
  t.match(metrics, `narswarm_source_up{source="${upstream.url}"} 1\n`);
  t.match(metrics, /^narswarm_saved_seconds -?[\d.e-]+$/m);
  t.match(metrics, 'narswarm_share_active 0\n');
  const page = (await get(client.url, '_narswarm/')).body.toString();
  t.match(page, '<li>3 NARs: 1 from peers, 1 over HTTP, 1 held');
  const printed = await runCommand(['status', client.url, '--timeout', '60s']);
  t.match(printed.out, /^3 NARs: 1 from peers/);
  const why = await runCommand(['why', '--timeout', '60s', '--url', client.url, shared.storeHash]);
  t.match(why.out, /from the swarm: 1\.91 MiB/);
  t.match(why.out, /from 127\.0\.0\.1:\d+/, 'who gave it');
});
