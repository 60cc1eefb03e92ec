import { mkdtemp, open as openFile, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import t, { type Test } from 'tap';
import { ClientState, openClientState } from '../../client/state/state.ts';
import type { StoreHash } from '../../nar/store-path.ts';
import { infoDictionary } from '../../swarm/torrent/torrent.ts';
import { until } from './lab.ts';
import { madeNar, torrentInfoText } from './made-nar.ts';

async function statePath(t: Test): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-state-'));
  t.teardown(() => rm(dir, { recursive: true }));
  return join(dir, 'client.sqlite');
}

function open(path: string, { narInfos = 100, torrents = 100 } = {}): ClientState {
  return new ClientState({ path, narInfos, torrents, clock: () => 1_000 });
}

const one = madeNar({ name: 'one', sizeBytes: 1_000 });
const given = {
  storeHash: one.storeHash,
  urlKey: one.narInfo.url,
  origin: 'http://a',
  narUrl: one.narInfo.url,
  narInfo: one.narInfo,
};

t.test('what was given out is known after the program is opened again', async (t) => {
  const path = await statePath(t);
  const before = open(path);
  await before.give(given);
  before.putTorrent({
    fileHash: one.fileHash,
    infoHash: one.torrent.infoHash,
    torrentInfo: torrentInfoText(one),
    info: infoDictionary(one.torrent),
  });
  before.addHeld({ fileHash: one.fileHash, name: 'x', sizeBytes: 1_000, narInfo: one.narInfo.text });
  before.setFact('store-dir', '/nix/store');
  before.close();
  before.close();
  const after = open(path);
  t.same(after.givenByUrl(given.urlKey), given);
  t.same(after.givenByStoreHash(given.storeHash)?.given, given);
  t.equal(after.torrentByInfoHash(one.torrent.infoHash)?.fileHash, one.fileHash);
  t.same(after.torrent(one.fileHash)?.info, infoDictionary(one.torrent));
  t.same(after.heldTotals(), { files: 1, bytes: 1_000 });
  t.equal(after.fact('store-dir'), '/nix/store');
  t.same(after.counts(), { narinfos: 1, torrents: 1 });
  after.close();
});

t.test('what waits for a table that takes nothing is bounded, and moved when it does', async (t) => {
  const path = await statePath(t);
  const database = (sql: string): void => {
    const db = new DatabaseSync(path);
    db.exec(sql);
    db.close();
  };
  open(path).close();
  database(`CREATE TRIGGER refused BEFORE INSERT ON given BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END`);
  const state = open(path, { narInfos: 80 });
  const all = Array.from({ length: 200 }, (_none, n) => {
    const { storeHash, narInfo } = madeNar({ name: `n${n}`, sizeBytes: 10 });
    return { ...given, storeHash, narInfo, urlKey: narInfo.url, narUrl: narInfo.url };
  });
  const noted: typeof all = [];
  for (const each of all) {
    await state.give(each).then(
      () => noted.push(each),
      (error: unknown) => t.match(error, { code: 'store-failed' }),
    );
  }
  t.ok(noted.length < 100, `${noted.length}`);
  t.ok(all.every(({ urlKey }) => state.givenByUrl(urlKey) !== undefined));
  state.close();
  database('DROP TRIGGER refused');
  const after = open(path, { narInfos: 80 });
  t.teardown(() => after.close());
  t.ok(noted.every(({ urlKey }) => after.givenByUrl(urlKey) !== undefined));
  await until(async () => (await after.give(given).catch(() => 'refused')) === undefined);
});

t.test('it is known for good that a URL was given out which its FileHash does not name', async (t) => {
  const path = await statePath(t);
  const [named, own] = [`nar/${one.fileHash}.nar.xz`, `_narswarm/nar/${one.storeHash}/x.nar.xz`];
  let state = open(path);
  for (const urlKey of [named, own]) await state.give({ ...given, urlKey });
  t.ok(state.urlsAreHashes);
  state.close();
  state = open(path);
  t.ok(state.urlsAreHashes, 'after a restart');
  for (const urlKey of [`nar/${'0'.repeat(52)}.nar.xz`, `${named}?part=1`]) {
    await state.give({ ...given, urlKey });
    t.notOk(state.urlsAreHashes);
    state.close();
    state = open(path);
    t.notOk(state.urlsAreHashes, 'after a restart');
  }
  state.close();
  const db = new DatabaseSync(path);
  db.prepare('DELETE FROM given WHERE url_key <> ?').run(named);
  db.close();
  state = open(path);
  t.notOk(state.urlsAreHashes, 'nobody looks through what is remembered');
  state.close();
});

t.test('a URL that was given out before is served beside the one given out now', async (t) => {
  const state = open(await statePath(t));
  t.teardown(() => state.close());
  await state.give({ ...given, urlKey: 'nar/old.nar.xz' });
  await state.give({ ...given, urlKey: 'nar/new.nar.zst' });
  t.ok(state.givenByUrl('nar/old.nar.xz'));
  t.equal(state.givenByStoreHash(given.storeHash)?.given.urlKey, 'nar/new.nar.zst');
  await state.give({ ...given, urlKey: 'nar/old.nar.xz' });
  t.equal(state.givenByStoreHash(given.storeHash)?.given.urlKey, 'nar/old.nar.xz');
});

t.test('the tables are bounded, and what was given out longest ago goes first', async (t) => {
  const state = open(await statePath(t), { narInfos: 16 });
  t.teardown(() => state.close());
  for (let n = 0; n < 40; n++) await state.give({ ...given, urlKey: `nar/${n}` });
  t.ok(state.counts().narinfos <= 16);
  t.ok(state.counts().narinfos >= 8);
  t.notOk(state.givenByUrl('nar/0'));
  t.ok(state.givenByUrl('nar/39'));
});

t.test('a second program on the same data is refused', async (t) => {
  const path = await statePath(t);
  const state = open(path);
  t.teardown(() => state.close());
  t.throws(() => open(path), { code: 'store-failed' });
});

t.test('what was given out last counts, whether it waits to be put into the table or is there', async (t) => {
  const path = await statePath(t);
  const before = open(path, { narInfos: 80 });
  // Ten may wait; more than that are moved at once.
  for (let n = 0; n < 30; n++) await before.give({ ...given, urlKey: `nar/${n}`, origin: `http://${n}` });
  await before.give({ ...given, urlKey: 'nar/3', origin: 'http://again' });
  const check = (state: ClientState): void => {
    t.equal(state.givenByUrl('nar/3')?.origin, 'http://again');
    t.equal(state.givenByUrl('nar/0')?.origin, 'http://0');
    t.equal(state.givenByUrl('nar/29')?.origin, 'http://29');
    t.equal(state.storeHashByUrl('nar/29'), given.storeHash);
    t.equal(state.givenByStoreHash(given.storeHash)?.given.origin, 'http://again');
  };
  check(before);
  before.close();
  const after = open(path, { narInfos: 80 });
  t.teardown(() => after.close());
  check(after);
  await until(() => after.counts().narinfos === 30);
  check(after);
});

t.test('what waits is moved into the table when nothing was given out for a moment', async (t) => {
  const state = open(await statePath(t), { narInfos: 8_000 });
  t.teardown(() => state.close());
  await Promise.all(Array.from({ length: 300 }, (_none, n) => state.give({ ...given, urlKey: `nar/${n}` })));
  t.equal(state.inserts, 0);
  await until(() => state.inserts === 300);
  t.equal(state.counts().narinfos, 300);
  for (const n of [0, 150, 299]) t.ok(state.givenByUrl(`nar/${n}`));
});

t.test('nothing is moved while NAR files of what waits are asked for', async (t) => {
  const state = open(await statePath(t), { narInfos: 8_000 });
  t.teardown(() => state.close());
  await state.give(given);
  let askedMs = performance.now();
  let pauseMs = 0;
  for (const startMs = askedMs; askedMs < startMs + 700; ) {
    state.givenByUrl(given.urlKey);
    await new Promise((resolve) => setImmediate(resolve));
    pauseMs = Math.max(pauseMs, performance.now() - askedMs);
    askedMs = performance.now();
  }
  // Unless the whole machine paused.
  if (pauseMs < 150) t.equal(state.inserts, 0);
  await until(() => state.inserts === 1);
});

t.test('what waits when the program ends is known to the next one, and moved by it', async (t) => {
  const path = await statePath(t);
  const before = open(path, { narInfos: 8_000 });
  await Promise.all(Array.from({ length: 300 }, (_none, n) => before.give({ ...given, urlKey: `nar/${n}` })));
  before.close();
  const after = open(path, { narInfos: 8_000 });
  t.teardown(() => after.close());
  const check = (): void => {
    for (const n of [0, 150, 299]) t.same(after.givenByUrl(`nar/${n}`), { ...given, urlKey: `nar/${n}` });
    t.equal(after.givenByStoreHash(given.storeHash)?.given.urlKey, 'nar/299');
    t.notOk(after.urlsAreHashes);
  };
  check();
  await until(() => after.inserts === 300);
  check();
  t.equal((await stat(`${path}-given`)).size, 17, 'the journal is empty');
});

t.test('what waited in a table, before there was a journal, is remembered', async (t) => {
  const path = await statePath(t);
  open(path).close();
  const db = new DatabaseSync(path);
  db.exec(`CREATE TABLE given_waiting (id INTEGER PRIMARY KEY, store_hash TEXT NOT NULL, url_key TEXT NOT NULL,
    origin TEXT NOT NULL, nar_url TEXT NOT NULL, text TEXT NOT NULL, used INTEGER NOT NULL) STRICT`);
  const { storeHash, urlKey, origin, narUrl, narInfo } = given;
  const insert = db.prepare('INSERT INTO given_waiting VALUES (NULL, ?, ?, ?, ?, ?, 1)');
  for (const each of ['http://earlier', origin]) insert.run(storeHash, urlKey, each, narUrl, narInfo.text);
  db.close();
  for (let times = 0; times < 2; times++) {
    const after = open(path);
    t.same(after.givenByUrl(given.urlKey), given);
    t.equal(after.counts().narinfos, 1);
    after.close();
  }
});

t.test('the journal is bounded, by rows and by bytes, also when nobody pauses', async (t) => {
  const path = await statePath(t);
  const state = open(path, { narInfos: 800 });
  t.teardown(() => state.close());
  const journal = async (): Promise<number> => (await stat(`${path}-given`)).size;
  let largest = 0;
  for (let turn = 0; turn < 100; turn++) {
    const gives = Array.from({ length: 25 }, (_none, n) =>
      state.give({ ...given, urlKey: `nar/${turn}-${n}` }),
    );
    await Promise.all(gives);
    largest = Math.max(largest, await journal());
  }
  // A hundred may wait.
  t.ok(largest < 225 * 1.5 * given.narInfo.text.length, `${largest} bytes`);
  t.ok(state.givenByUrl('nar/99-24'));
  const text = `${one.narInfo.text}System: ${'x'.repeat(4_000_000)}\n`;
  for (let n = 0; n < 40; n++)
    await state.give({ ...given, urlKey: `nar/${n}`, narInfo: { ...one.narInfo, text } });
  t.ok((await journal()) < 72 * 1024 * 1024);
  for (const n of [0, 20, 39]) t.equal(state.givenByUrl(`nar/${n}`)?.narInfo.text, text);
});

t.test('a state that is damaged is made anew, and one that others use is not touched', async (t) => {
  const damages: Record<string, (bytes: Buffer) => Buffer> = {
    'no database': (bytes) => Buffer.alloc(bytes.length, 7),
    'cut off': (bytes) => bytes.subarray(0, bytes.length / 2),
    'without a table': (bytes) => bytes,
  };
  for (const [what, damage] of Object.entries(damages)) {
    const path = await statePath(t);
    const before = open(path);
    for (let n = 0; n < 50; n++) await before.give({ ...given, urlKey: `nar/${n}` });
    before.close();
    if (what === 'without a table') {
      const database = new DatabaseSync(path);
      database.exec('DROP TABLE given');
      database.close();
    }
    await writeFile(path, damage(await readFile(path)));
    const said: unknown[] = [];
    const options = { path, narInfos: 100, torrents: 100, clock: () => 1_000 };
    const after = openClientState({ ...options, onDamaged: (error) => said.push(error) });
    t.equal(said.length, 1, what);
    await after.give(given);
    t.same(after.givenByUrl(given.urlKey), given);
    t.throws(() => openClientState(options), { code: 'store-failed' }, 'it is in use');
    after.close();
    const last = openClientState(options);
    t.ok(last.givenByUrl(given.urlKey));
    last.close();
  }
});

t.test(
  'what turns out to be unreadable while it is used is unknown, and gone with the next start',
  async (t) => {
    const path = await statePath(t);
    const options = { path, narInfos: 5_000, torrents: 100, clock: () => 1_000 };
    const before = openClientState(options);
    const hashes = Array.from(
      { length: 1_000 },
      (_, n) => `${String(n).padStart(4, '0')}${one.storeHash.slice(4)}` as StoreHash,
    );
    await Promise.all(hashes.map((storeHash, n) => before.give({ ...given, storeHash, urlKey: `nar/${n}` })));
    await until(() => before.inserts === 1_000);
    before.close();
    const said: unknown[] = [];
    const state = openClientState({ ...options, onDamaged: (error) => said.push(error) });
    // Later than it was opened: the first pages are read by then, and most others are not.
    const file = await openFile(path, 'r+');
    const { size } = await stat(path);
    for (let at = 32 * 4096; at < size; at += 4096) await file.write(Buffer.alloc(64, 0xff), 0, 64, at);
    await file.close();
    const found = hashes.map((storeHash) => state.givenByStoreHash(storeHash));
    t.ok(found.some((each) => each === undefined));
    t.doesNotThrow(() =>
      hashes.map((_, n) => [state.givenByUrl(`nar/${n}`), state.storeHashByUrl(`nar/${n}`)]),
    );
    t.equal(said.length, 1, 'said once');
    try {
      state.close();
    } catch {
      // It may be too damaged even for that.
    }
    const after = openClientState(options);
    t.same(after.counts(), { narinfos: 0, torrents: 0 });
    t.equal(after.givenByStoreHash(hashes[0] ?? one.storeHash), undefined);
    await after.give(given);
    after.close();
    const last = openClientState(options);
    t.ok(last.givenByUrl(given.urlKey), 'it is made anew once');
    last.close();
  },
);
