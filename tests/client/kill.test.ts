/** The client as a process of its own, killed at random moments: it comes back clean, and serves nothing wrong. */

import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { printPublicKey } from '../../nar/signature.ts';
import { startProgram } from '../helpers/program.ts';
import { get } from './lab.ts';
import { cacheKey, madeNar } from './made-nar.ts';
import { TestUpstream } from './test-upstream.ts';

const kills = 20;

t.test(
  'killed at random moments, the client restarts clean and fetches no finished file again',
  async (t) => {
    const nars = Array.from({ length: kills * 2 }, (_, n) =>
      madeNar({ name: `n${n}`, sizeBytes: 20_000 + n * 37_000 }),
    );
    const upstream = await TestUpstream.open(nars);
    t.teardown(() => upstream.close());
    const dir = await mkdtemp(join(tmpdir(), 'narswarm-kill-'));
    t.teardown(() => rm(dir, { recursive: true, force: true }));
    const args = ['client', '--data', dir, '--upstream', upstream.url, '--http', '127.0.0.1:0'];
    const flags = [...args, '--trusted-key', printPublicKey(cacheKey.publicKey)];
    const whole = new Set<string>();
    let served = 0;
    for (let n = 0; n < kills; n++) {
      const client = await startProgram(flags);
      const held = new Set(
        (await readdir(join(dir, 'nar-files'), { recursive: true })).filter((name) => name.includes('/')),
      );
      const before = upstream.requests.length;
      // After a random number of answers, and a little later: in the middle of whatever comes next.
      let answersLeft = Math.floor(Math.random() * (n + 10));
      let enough = (): void => undefined;
      const killTime = new Promise<void>((resolve) => {
        enough = resolve;
      });
      if (answersLeft === 0) enough();
      const fetchOne = async (nar: (typeof nars)[number]): Promise<void> => {
        const narInfo = await get(client.url, `${nar.storeHash}.narinfo`);
        const answer = await get(client.url, nar.narInfo.url);
        if (narInfo.body.toString() !== nar.narInfo.text) return;
        if (!answer.complete || answer.status !== 200) return;
        served++;
        if (!answer.body.equals(nar.bytes)) t.fail('wrong bytes were served');
        if (--answersLeft <= 0) enough();
      };
      const fetches = Promise.allSettled(nars.slice(0, n + 10).map(fetchOne));
      await Promise.race([killTime, fetches]);
      await sleep(Math.random() * 20);
      await client.kill();
      await fetches;
      const fetched = new Set(upstream.requests.slice(before).map(({ url }) => url.slice(1)));
      const again = [...held].filter((name) => fetched.has(`nar/${name.split('/').at(-1)}`));
      if (again.length > 0) t.fail(`fetched again: ${again}`);
      for (const name of held) whole.add(name);
    }
    const client = await startProgram(flags);
    for (const nar of nars) t.ok((await get(client.url, `${nar.storeHash}.narinfo`)).status === 200);
    for (const nar of nars) t.ok((await get(client.url, nar.narInfo.url)).body.equals(nar.bytes));
    t.ok(served > 0 && whole.size > 0, `${served} answers and ${whole.size} files survived`);
    t.equal(await client.stop(), 0);
  },
);
