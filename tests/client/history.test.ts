import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { History, storiesOfPathMax } from '../../client/report/history.ts';
import { legReasons, type NarStory } from '../../client/story.ts';
import { silentLogger } from '../../web/log.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';
import { madeNar } from './made-nar.ts';

const nars = Array.from({ length: 40 }, (_, n) => madeNar({ name: `n${n}`, sizeBytes: 100 }));
const [one, two] = nars as [(typeof nars)[0], (typeof nars)[0]];

function story(nar = one, startedMs = 1_000): NarStory {
  return {
    fileHash: nar.fileHash,
    storeHash: nar.storeHash,
    storePath: nar.narInfo.storePath,
    sizeBytes: 100,
    startedMs,
    tookMs: 12.5,
    outcome: 'fetched',
    ahead: false,
    httpMs: 20,
    legs: [
      {
        source: 'swarm',
        kind: 'swarm',
        why: 'peers-known',
        fromByte: 0,
        startedMs: 0,
        firstByteMs: 10,
        endedMs: 12,
        usedBytes: 100,
        unusedBytes: 0,
        end: 'finished',
        peers: ['127.0.0.1:1'],
      },
    ],
  };
}

async function dirFor(t: Test): Promise<string> {
  provesNothingStaysOpen(t);
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-history-'));
  t.teardown(() => rm(dir, { recursive: true }));
  return dir;
}

function open(t: Test, path: string, stories = 1_000): History {
  const history = new History({ path, stories, logger: silentLogger });
  t.teardown(() => history.close());
  return history;
}

t.test('a story is told as soon as it is added, and after the client was opened again', async (t) => {
  const path = join(await dirFor(t), 'history.sqlite');
  const before = open(t, path);
  before.add(story());
  t.same(before.ofStoreHash(one.storeHash), [story()]);
  t.same(before.ofStoreHash(two.storeHash), []);
  before.close();
  before.close();
  t.same(open(t, path).ofStoreHash(one.storeHash), [story()]);
});

t.test('of one path the newest stories are told, the newest of all first', async (t) => {
  const path = join(await dirFor(t), 'history.sqlite');
  const before = open(t, path);
  for (let n = 0; n < 4; n++) before.add(story(one, n));
  before.close();
  const after = open(t, path);
  for (let n = 4; n < 7; n++) after.add(story(one, n));
  const times = after.ofStoreHash(one.storeHash).map(({ startedMs }) => startedMs);
  t.same(times, [6, 5, 4, 3, 2]);
  t.equal(times.length, storiesOfPathMax);
});

t.test('the oldest stories go when there are too many', async (t) => {
  const path = join(await dirFor(t), 'history.sqlite');
  const history = open(t, path, 300);
  for (let n = 0; n < 2_000; n++) history.add(story(nars[n % nars.length], n));
  t.ok(history.status().stories <= 300 + 256, `${history.status().stories}`);
  const newest = nars[1_999 % nars.length] ?? one;
  t.equal(history.ofStoreHash(newest.storeHash)[0]?.startedMs, 1_999);
  history.close();
  const after = open(t, path, 10);
  after.add(story(one, 5_000));
  after.close();
  t.ok(open(t, path, 10).status().stories <= 10);
});

t.test('a file that is no database is made anew', async (t) => {
  const path = join(await dirFor(t), 'history.sqlite');
  writeFileSync(path, 'no database at all, but long enough to be looked at as one'.repeat(100));
  const history = open(t, path);
  history.add(story());
  history.close();
  t.same(open(t, path).ofStoreHash(one.storeHash), [story()]);
});

t.test('without its file it tells what came last, and holds no more than that', async (t) => {
  const dir = await dirFor(t);
  const path = join(dir, 'history.sqlite');
  mkdirSync(path);
  const history = open(t, path);
  for (let n = 0; n < 5_000; n++) history.add(story(one, n));
  t.equal(history.ofStoreHash(one.storeHash)[0]?.startedMs, 4_999);
  t.ok(history.status().stories <= 256);
  history.close();
  t.ok(existsSync(path));
});

t.test('every reason is one sentence', async (t) => {
  for (const words of Object.values(legReasons)) t.match(words, /^[A-Z][^.]*\.$/);
});

t.test('stories are found by name, with or without the version, and by FileHash', async (t) => {
  const path = join(await dirFor(t), 'history.sqlite');
  const names = ['hello-2.12', 'hello-world-1.0', 'hello', 'libhello-2.12', 'hello-2.10'];
  const made = names.map((name) => madeNar({ name, sizeBytes: 100 }));
  const before = open(t, path);
  for (const nar of made.slice(0, 3)) before.add(story(nar));
  before.close();
  const history = open(t, path);
  for (const nar of made.slice(3)) history.add(story(nar));
  const named = (word: string, limit = 10) =>
    history.search(word, limit).map((hash) => names[made.findIndex(({ storeHash }) => storeHash === hash)]);
  t.same(named('hello'), ['hello-2.10', 'hello', 'hello-2.12'], 'the newest first');
  t.same(named('hello', 2), ['hello-2.10', 'hello']);
  t.same(named('hello-2.12'), ['hello-2.12']);
  t.same(named(made[1]?.fileHash ?? ''), ['hello-world-1.0']);
  t.same(named('%'), []);
  t.same(named('swarm'), [], 'no other word of a story counts');
});
