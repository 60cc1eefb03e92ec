/** `narswarm why` against a running client. */

import t from 'tap';
import { parseWhy } from '../../cli/why-answer.ts';
import { whyText } from '../../cli/why-text.ts';
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
  const { out, status } = await runCommand([
    ...['why', '--timeout', '60s', '--url', client.url, `${fetched.narInfo.storePath}/bin/x`],
  ]);
  t.equal(status, 0);
  t.match(out, `${fetched.narInfo.storePath}\n`);
  t.match(out, new RegExp(`Fetched .* ago .* from ${upstream.url}: 293 KiB`));
  t.match(out, /All of it came over HTTP/);
  t.match(out, new RegExp(`Its narinfo is that of ${upstream.url}`));
  t.match(out, /is held since/);

  const answer = async (word: string) => (await get(client.url, `_narswarm/why/${word}`)).body.toString();
  const told = async (word: string) => whyText(await parseWhy(await answer(word)), word, Date.now());
  for (const word of ['fetched', 'fetched-1.0', fetched.fileHash, fetched.storeHash])
    t.match(await told(word), fetched.narInfo.storePath, word);
  t.match(await told(looked.storeHash), /and not for the NAR file/);
  t.match(await told(strange.storeHash), /has not asked this client for it/);
  t.match(await told('strange'), /Nothing was fetched lately/);
  t.match(await told(encodeURIComponent('%/..')), /Nothing was fetched lately/);
  t.match(JSON.parse(await answer(fetched.storeHash)), {
    paths: [{ storeHash: fetched.storeHash, held: true, stories: [{ outcome: 'fetched' }] }],
  });
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
