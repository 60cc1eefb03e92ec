/** A catalog that answers more than it was asked is not read on. */

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import t from 'tap';
import { sha256FromDigest } from '../../nar/hash.ts';
import { fetchResolveLines } from '../../parts/resolve-request.ts';

t.test('there is a line for each hash at most', async (t) => {
  const server = createServer((_request, response) => response.end('x\n'.repeat(100_000)));
  t.teardown(() => server.close());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const hashes = [1, 2, 3].map((byte) => sha256FromDigest(Buffer.alloc(32, byte)));
  const lines: string[] = [];
  const reading = async (): Promise<void> => {
    for await (const line of fetchResolveLines(url, hashes, AbortSignal.timeout(60_000))) lines.push(line);
  };
  await t.rejects(reading(), { code: 'upstream-failed', message: /more than it was asked/ });
  t.same(lines, ['x', 'x', 'x']);
});
