/** An upstream that stops giving: waited for once, and then not as long again, so that Nix can go on to its next substituter. */

import t from 'tap';
import { BadSources } from '../../client/race/bad-sources.ts';
import { fetchNar, get, Lab, statusOf, until } from './lab.ts';
import { madeNar } from './made-nar.ts';

const nar = madeNar({ name: 'large', sizeBytes: 400_000, compression: 'none' });
const limits = { httpStallMs: 3_000, restingStallMs: 200, hungStallMs: 100 };

t.test('an upstream that hangs is waited for once, not for each attempt', async (t) => {
  // With a torrent the upstream gives the rest of a piece each time before it hangs.
  for (const [givesFirst, torrent] of [
    [0, false],
    [200_000, false],
    [200_000, true],
  ] as const) {
    const lab = await Lab.open(t);
    const upstream = await lab.upstream([nar]);
    upstream.intercept = (request, response) => {
      if (!request.url?.includes('nar/')) return false;
      const from = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
      if (givesFirst === 0) return true;
      const size = nar.bytes.length;
      const range = from > 0 ? { 'content-range': `bytes ${from}-${size - 1}/${size}` } : {};
      response.writeHead(from > 0 ? 206 : 200, { 'content-length': size - from, ...range });
      response.flushHeaders();
      response.write(nar.bytes.subarray(from, Math.max(from, givesFirst)));
      return true;
    };
    const catalogs = torrent ? [await lab.catalog([nar])] : [];
    for (const catalog of catalogs) catalog.peers = [];
    const dataDir = `${lab.dir}/${givesFirst}-${torrent}`;
    const client = await lab.client([upstream], catalogs, { limits, dataDir });
    const answer = await fetchNar(client, nar);
    t.notOk(answer.complete && answer.status === 200);
    t.ok(answer.ms < 2 * limits.httpStallMs, `${answer.ms} ms`);
    await until(() => statusOf(client).transfers.running.length === 0);
    const again = await get(client.url, nar.narInfo.url);
    t.notOk(again.complete && again.status === 200);
    t.ok(again.ms < limits.httpStallMs, `${again.ms} ms when Nix asks again`);
    await until(() => statusOf(client).transfers.running.length === 0);
    await client.close();
  }
});

t.test('who was waited for in vain is remembered for the file, and shorter for any file', async (t) => {
  let nowMs = 0;
  const hung = new BadSources(() => nowMs, 600_000);
  hung.note(nar.fileHash, 'http://a');
  nowMs = 59_999;
  t.ok(hung.has(nar.fileHash, 'http://a') && hung.lately('http://a', 60_000));
  t.notOk(hung.lately('http://b', 60_000));
  nowMs = 60_000;
  t.ok(hung.has(nar.fileHash, 'http://a'));
  t.notOk(hung.lately('http://a', 60_000));
});
