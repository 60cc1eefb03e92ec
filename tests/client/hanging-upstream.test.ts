/** An upstream that stops giving: waited for once, and then not as long again, so that Nix can go on to its next substituter. */

import t from 'tap';
import { fetchNar, Lab, statusOf, until } from './lab.ts';
import { madeNar } from './made-nar.ts';

const nar = madeNar({ name: 'large', sizeBytes: 400_000, compression: 'none' });
const limits = { httpStallMs: 3_000, restingStallMs: 200 };

t.test('an upstream that hangs is waited for once, not for each attempt', async (t) => {
  for (const givesFirst of [0, 200_000]) {
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
    const client = await lab.client([upstream], [], { limits, dataDir: `${lab.dir}/${givesFirst}` });
    const answer = await fetchNar(client, nar);
    t.notOk(answer.complete && answer.status === 200);
    t.ok(answer.ms < 2 * limits.httpStallMs, `${answer.ms} ms`);
    await until(() => statusOf(client).transfers.running.length === 0);
    await client.close();
  }
});
