/** What Nix was told must be known after a kill: it asks for the NAR file weeks later, under the URL that it was told. */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { ClientState } from '../../client/state/state.ts';
import { startProgram } from '../helpers/program.ts';
import { get } from './lab.ts';
import { madeNar } from './made-nar.ts';
import { TestUpstream } from './test-upstream.ts';

t.test(
  'every narinfo that left a client which is killed at that moment is known to the next one',
  async (t) => {
    const nars = Array.from({ length: 120 }, (_none, n) => madeNar({ name: `n${n}`, sizeBytes: 10 }));
    const upstream = await TestUpstream.open(nars);
    t.teardown(() => upstream.close());
    const dir = await mkdtemp(join(tmpdir(), 'narswarm-kill-'));
    t.teardown(() => rm(dir, { recursive: true, force: true }));
    const args = ['client', '--data', dir, '--upstream', upstream.url, '--http', '127.0.0.1:0'];
    const answered: string[] = [];
    for (let round = 0; round < 3; round++) {
      const client = await startProgram(args);
      let killed: Promise<void> | undefined;
      const asked = nars.slice(round * 40, round * 40 + 40).map(async ({ narInfo, storeHash }, n) => {
        const { body } = await get(client.url, `${storeHash}.narinfo`);
        if (body.toString() !== narInfo.text) return;
        answered.push(narInfo.url);
        if (answered.length >= round * 13 + n / 4) killed ??= client.kill();
      });
      await Promise.allSettled(asked);
      await (killed ?? client.kill());
    }
    t.ok(answered.length > 0);
    const state = new ClientState({
      path: join(dir, 'client.sqlite'),
      narInfos: 1_000,
      torrents: 1,
      clock: Date.now,
    });
    t.teardown(() => state.close());
    const known = answered.filter((url) => state.givenByUrl(url) !== undefined);
    t.equal(known.length, answered.length);
  },
);
