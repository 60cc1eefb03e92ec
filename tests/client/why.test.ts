/** `narswarm why` against a running client. */

import t from 'tap';
import { runCommand } from '../cli/run-command.ts';
import { fetchNar, get, Lab, statusOf, until } from './lab.ts';
import { madeNar } from './made-nar.ts';

const fetched = madeNar({ name: 'fetched-1.0', sizeBytes: 300_000 });
const looked = madeNar({ name: 'looked-1.0', sizeBytes: 1_000 });
const strange = madeNar({ name: 'strange-1.0', sizeBytes: 1_000 });

t.test('why says how a path came, by its path, its hash or its name', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream([fetched, looked]);
  const client = await lab.client([upstream]);
  await fetchNar(client, fetched);
  await get(client.url, `${looked.storeHash}.narinfo`);
  await until(() => statusOf(client).cache.files === 1);
  const why = async (...what: string[]) => runCommand(['why', '--url', client.url, ...what]);
  for (const what of [fetched.narInfo.storePath, `${fetched.narInfo.storePath}/bin/x`, fetched.storeHash]) {
    const { status, out } = await why(what);
    t.equal(status, 0);
    t.match(out, `${fetched.narInfo.storePath}\n`, what);
    t.match(out, new RegExp(`Fetched .* ago .* from ${upstream.url}: 293 KiB`));
    t.match(out, /All of it came over HTTP/);
    t.match(out, new RegExp(`Its narinfo is that of ${upstream.url}`));
    t.match(out, /is held since/);
  }
  t.match((await why('fetched')).out, fetched.narInfo.storePath);
  t.match((await why(fetched.fileHash)).out, fetched.narInfo.storePath);
  t.match((await why(looked.storeHash)).out, /and not for the NAR file/);
  t.match((await why(strange.storeHash)).out, /has not asked this client for it/);
  t.match((await why('strange')).out, /Nothing was fetched lately/);
  const json = JSON.parse((await why('--json', fetched.storeHash)).out);
  t.match(json, { paths: [{ storeHash: fetched.storeHash, held: true, stories: [{ outcome: 'fetched' }] }] });
});

t.test('a wrong question, and nobody to answer it, are told apart', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream();
  t.match(await runCommand(['why', '/etc/hostname']), { status: 2, errors: /is not in a store/ });
  t.match(await runCommand(['why', '--url', 'http://127.0.0.1:1', 'x']), {
    status: 1,
    errors: /does not answer/,
  });
  t.match(await runCommand(['why', '--url', upstream.url, 'x']), { status: 1, errors: /no narswarm client/ });
});
