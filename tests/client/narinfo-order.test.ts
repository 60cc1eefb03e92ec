/** Nobody is given a narinfo before it is written down, however many ask for it at once. */

import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { defaultLimits } from '../../client/config.ts';
import { Counts } from '../../client/counts.ts';
import { NarInfoFinder } from '../../client/narinfo/narinfo.ts';
import { ClientState, type GivenNarInfo } from '../../client/state/state.ts';
import { HttpCache } from '../../upstream/http-cache.ts';
import { silentLogger } from '../../web/log.ts';
import { madeNar } from './made-nar.ts';
import { TestUpstream } from './test-upstream.ts';

class WatchedState extends ClientState {
  onGive: (() => void) | undefined;

  override giveThen(given: GivenNarInfo, written: (error?: unknown) => void): void {
    super.giveThen(given, written);
    this.onGive?.();
  }
}

t.test('who asks while it is about to be written waits for that, too', async (t) => {
  const nar = madeNar({ name: 'one', sizeBytes: 10 });
  const upstream = await TestUpstream.open([nar]);
  t.teardown(() => upstream.close());
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-order-'));
  t.teardown(() => rm(dir, { recursive: true }));
  const path = join(dir, 'client.sqlite');
  const state = new WatchedState({ path, narInfos: 100, torrents: 1, clock: Date.now });
  t.teardown(() => state.close());
  const cache = new HttpCache({ url: upstream.url });
  t.teardown(() => cache.close());
  const finder = new NarInfoFinder({
    sources: () => [cache],
    resting: () => false,
    slow: () => false,
    views: { narInfoText: () => undefined, revoked: () => undefined, version: () => 1 },
    state,
    counts: new Counts(),
    limits: defaultLimits,
    logger: silentLogger,
    onDiskFull: () => undefined,
    storeDirs: { current: undefined, of: () => undefined },
    clock: Date.now,
  });
  const journal = (): string => readFileSync(`${path}-given`, 'utf8');
  let second: Promise<boolean> | undefined;
  state.onGive = () => {
    t.notMatch(journal(), nar.narInfo.url);
    second = finder.find(nar.storeHash).then(() => journal().includes(nar.narInfo.url));
  };
  t.equal((await finder.find(nar.storeHash))?.narInfo.text, nar.narInfo.text);
  t.ok(await second);
});
