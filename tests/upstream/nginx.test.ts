/** An HTTP cache that is a real nginx. */

import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { parseStoreHash } from '../../nar/store-path.ts';
import { HttpCache } from '../../upstream/http-cache.ts';
import { nginxMissing, startNginx } from '../helpers/nginx.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';

t.test(
  'nginx is read whole, in parts and absent, and logs the same bytes',
  { skip: nginxMissing() },
  async (t) => {
    provesNothingStaysOpen(t);
    const directory = await mkdtemp(join(tmpdir(), 'narswarm-cache-'));
    t.teardown(() => rm(directory, { recursive: true, force: true }));
    const bytes = randomBytes(3_000_000);
    await mkdir(join(directory, 'base', 'nar'), { recursive: true });
    await writeFile(join(directory, 'base', 'nar', 'x.nar'), bytes);
    const nginx = await startNginx(directory, {
      directives: 'location = /moved { return 302 /base/nar/x.nar; }',
    });
    t.teardown(() => nginx.stop());
    const cache = new HttpCache({ url: `${nginx.url}/base` });
    t.teardown(() => cache.close());
    const { signal } = new AbortController();

    const expected = [];
    for (const [url, fromByte] of [
      ['nar/x.nar', 0],
      ['nar/x.nar', 1_234_567],
      ['/moved', 2_999_999],
    ] as const) {
      const nar = await cache.openNar(url, { fromByte, signal });
      const chunks: Buffer[] = [];
      for await (const chunk of nar?.body ?? []) chunks.push(chunk);
      t.ok(Buffer.concat(chunks).equals(bytes.subarray(fromByte)), `${url} from ${fromByte}`);
      t.equal(nar?.lengthBytes, bytes.length);
      expected.push(bytes.length - fromByte);
    }
    t.equal(await cache.openNar('nar/absent.nar', { signal }), undefined);
    t.equal(await cache.getNarInfo(parseStoreHash('0'.repeat(32)), signal), undefined);
    await t.rejects(cache.openNar('nar/x.nar', { fromByte: bytes.length, signal }), {
      code: 'upstream-failed',
    });

    const seen = await nginx.waitForRequests(7);
    const sent = seen
      .filter(({ uri, status }) => uri.endsWith('x.nar') && status < 300)
      .map(({ bodyBytes }) => bodyBytes);
    t.same(sent, expected);
    t.equal(seen[1]?.range, 'bytes=1234567-');
  },
);
