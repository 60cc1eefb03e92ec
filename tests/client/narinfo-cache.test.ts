import t from 'tap';
import { defaultLimits } from '../../client/config.ts';
import { NarInfoCache, type NarInfoCacheOptions } from '../../client/narinfo/narinfo-cache.ts';
import type { GivenNarInfo } from '../../client/state/state.ts';
import { madeNar } from './made-nar.ts';

function givenOf(name: string): GivenNarInfo {
  const { storeHash, narInfo } = madeNar({ name, sizeBytes: 10 });
  return { storeHash, urlKey: narInfo.url, origin: 'http://a', narUrl: narInfo.url, narInfo };
}

function made(limits: Partial<NarInfoCacheOptions['limits']> = {}) {
  const world = { nowMs: 1_000_000, version: 1, inserts: 0 };
  const cache = new NarInfoCache({
    limits: { ...defaultLimits, ...limits },
    clock: () => world.nowMs,
    version: () => world.version,
    inserts: () => world.inserts,
  });
  return { cache, world };
}

const given = givenOf('one');
const { storeHash } = given;

t.test(
  'what a source gave is given again for its time, what a view has until the views change',
  async (t) => {
    const { cache, world } = made();
    const [cached, viewed] = [given, givenOf('two')];
    cache.keep({ kind: 'cached', given: cached }, 1, world.nowMs);
    cache.keep({ kind: 'viewed', given: viewed }, 1, world.nowMs);
    t.match(cache.ready(cached.storeHash), { kind: 'cached', given: cached });
    world.nowMs += defaultLimits.narInfoFreshMs - 1;
    t.ok(cache.ready(cached.storeHash));
    world.nowMs += 1;
    t.equal(cache.ready(cached.storeHash), undefined);
    t.ok(cache.ready(viewed.storeHash));
    world.version++;
    t.equal(cache.ready(viewed.storeHash), undefined);
  },
);

t.test('that nobody has it is believed for a short time, and not after the views changed', async (t) => {
  const { cache, world } = made();
  cache.keepAbsent(storeHash, 1);
  t.equal(cache.ready(storeHash), 'absent');
  world.nowMs += defaultLimits.narInfoAbsentMs;
  t.equal(cache.ready(storeHash), undefined);
  cache.keepAbsent(storeHash, 1);
  world.version++;
  t.equal(cache.ready(storeHash), undefined);
  cache.keep({ kind: 'cached', given }, world.version, world.nowMs);
  t.ok(cache.ready(storeHash), 'it was uploaded');
});

t.test('a clock that is set back makes nothing last longer', async (t) => {
  const { cache, world } = made();
  cache.keep({ kind: 'cached', given }, 1, world.nowMs);
  world.nowMs -= 1;
  t.equal(cache.ready(storeHash), undefined);
  cache.keepAbsent(storeHash, 1);
  world.nowMs -= 1;
  t.equal(cache.ready(storeHash), undefined);
});

t.test('what turned out to be out of date is asked for, whatever is on the disk, until it was', async (t) => {
  const { cache, world } = made();
  cache.keep({ kind: 'cached', given }, 1, world.nowMs);
  t.notOk(cache.mustAsk(storeHash));
  cache.distrust(storeHash);
  t.equal(cache.ready(storeHash), undefined);
  t.ok(cache.mustAsk(storeHash));
  cache.keep({ kind: 'cached', given }, 1, world.nowMs);
  t.notOk(cache.mustAsk(storeHash));
});

t.test('what is given again and again is written again before the state forgets it', async (t) => {
  const { cache, world } = made({ narInfos: 400 });
  cache.keep({ kind: 'viewed', given }, 1, world.nowMs);
  world.inserts = 100;
  t.ok(cache.ready(storeHash));
  world.inserts = 101;
  t.equal(cache.ready(storeHash), undefined);
});

t.test('both kinds are bounded, and the least recently used go first', async (t) => {
  const { cache, world } = made({ narInfosInMemory: 3, absentPaths: 2 });
  const [a, b, c, d] = ['a', 'b', 'c', 'd'].map(givenOf);
  if (a === undefined || b === undefined || c === undefined || d === undefined)
    throw new Error('unreachable');
  for (const each of [a, b, c]) cache.keep({ kind: 'viewed', given: each }, 1, world.nowMs);
  t.ok(cache.ready(a.storeHash));
  cache.keep({ kind: 'viewed', given: d }, 1, world.nowMs);
  t.ok(cache.ready(a.storeHash));
  t.equal(cache.ready(b.storeHash), undefined);
  for (const each of [b, ...['e', 'f'].map(givenOf)]) cache.keepAbsent(each.storeHash, 1);
  t.equal(cache.ready(b.storeHash), undefined);
  const small = made({ narInfosInMemoryCharacters: given.narInfo.text.length * 2 }).cache;
  for (const each of [a, b, c]) small.keep({ kind: 'viewed', given: each }, 1, world.nowMs);
  t.notOk(small.ready(a.storeHash));
  t.ok(small.ready(c.storeHash));
});

t.test('of what left the memory it is known for how long it need not be written down again', async (t) => {
  const { cache, world } = made({ narInfosInMemory: 1, narInfosWritten: 2, narInfos: 400 });
  const [a, b, c, d] = ['a', 'b', 'c', 'd'].map(givenOf);
  if (a === undefined || b === undefined || c === undefined || d === undefined)
    throw new Error('unreachable');
  for (const each of [a, b]) cache.keep({ kind: 'viewed', given: each }, 1, world.nowMs);
  t.equal(cache.ready(a.storeHash), undefined);
  t.ok(cache.isWritten(a.storeHash, 1));
  t.notOk(cache.isWritten(a.storeHash, 2), 'the views are others');
  // Read again, and not written again.
  world.inserts = 60;
  for (const each of [a, c]) cache.keep({ kind: 'viewed', given: each }, 1, world.nowMs);
  t.ok(cache.isWritten(a.storeHash, 1));
  world.inserts = 101;
  t.notOk(cache.isWritten(a.storeHash, 1), 'the state may forget it');
  cache.keep({ kind: 'viewed', given: d }, 1, world.nowMs);
  t.ok(cache.isWritten(c.storeHash, 1));
  cache.keep({ kind: 'cached', given: b }, 1, world.nowMs);
  t.ok(cache.isWritten(d.storeHash, 1));
  t.notOk(cache.isWritten(a.storeHash, 1), 'only so many are known');
  cache.distrust(d.storeHash);
  t.notOk(cache.isWritten(d.storeHash, 1));
  cache.keep({ kind: 'viewed', given: a }, 1, world.nowMs);
  t.notOk(cache.isWritten(b.storeHash, 1), 'what a source gave may be another the next time');
});
