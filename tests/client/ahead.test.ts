/** What is prepared and fetched before Nix asks for it. */

import { hash } from 'node:crypto';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { aheadOrder } from '../../client/ahead/ahead-order.ts';
import { AheadWalk } from '../../client/ahead/ahead-walk.ts';
import type { ClientConfig } from '../../client/config.ts';
import type { Client } from '../../client/main.ts';
import { type Sha256, sha256FromDigest } from '../../nar/hash.ts';
import { nix32Encode } from '../../nar/nix32.ts';
import { parseStoreHash, type StoreHash } from '../../nar/store-path.ts';
import { fetchNar, get, Lab, statusOf, unhurried, until } from './lab.ts';
import { type MadeNar, madeNar } from './made-nar.ts';
import type { TestCatalog } from './test-catalog.ts';
import type { TestUpstream } from './test-upstream.ts';

const sizeBytes = 20_000;
const nars = Array.from({ length: 30 }, (_, n) => madeNar({ name: `small-${n}`, sizeBytes: sizeBytes + n }));

interface Opened {
  client: Client;
  catalog: TestCatalog;
  upstream: TestUpstream;
}

/** A client that knows a pack with these NAR files, and fetches nothing ahead but out of it. */
async function opened(t: Test, made: MadeNar[], limits: ClientConfig['limits'] = {}): Promise<Opened> {
  const lab = await Lab.open(t);
  const catalog = await lab.catalog(made);
  catalog.makePack();
  const upstream = await lab.upstream(made);
  const client = await lab.client([upstream], [catalog], { limits: { aheadHttpFetches: 0, ...limits } });
  return { client, catalog, upstream };
}

/** As Nix does before it fetches: all narinfos. Resolves when the pack's peer can be asked. */
async function askNarInfos({ client }: Opened, made: readonly MadeNar[]): Promise<void> {
  await Promise.all(made.map(({ storeHash }) => get(client.url, `${storeHash}.narinfo`)));
  await until(() => statusOf(client).packs.warm === 1);
}

t.test('who asks for narinfos alone fetches nothing', async (t) => {
  const all = await opened(t, nars);
  await askNarInfos(all, nars);
  t.match(statusOf(all.client).ahead, { noted: nars.length, fetched: 0, waitingBytes: 0 });
  t.equal(all.catalog.uploadedBytes, 0);
});

t.test('once Nix fetches, small NAR files are there before it asks, each fetched once', async (t) => {
  const all = await opened(t, nars, unhurried);
  const { client, catalog, upstream } = all;
  await askNarInfos(all, nars);
  const [first, ...others] = nars;
  if (first === undefined) throw new Error('there is one');
  t.ok((await get(client.url, first.narInfo.url)).body.equals(first.bytes));
  await until(() => statusOf(client).nars.swarm === nars.length);
  t.match(statusOf(client).ahead, { fetched: others.length, used: 0, noted: 0 });
  const got = await Promise.all(others.map((nar) => get(client.url, nar.narInfo.url)));
  for (const [index, nar] of others.entries()) t.ok(got[index]?.body.equals(nar.bytes));
  const { ahead, packs, failed } = statusOf(client);
  t.match(ahead, { fetched: others.length, used: others.length, waitingBytes: 0, unusedBytes: 0 });
  t.equal(failed, 0);
  const bytes = nars.reduce((sum, nar) => sum + nar.bytes.length, 0);
  t.equal(packs.downloadedBytes, bytes);
  t.equal(catalog.uploadedBytes, bytes, 'and nothing else left the peer');
  t.notOk(upstream.requests.some(({ url }) => url.startsWith('/nar/')));
});

t.test('without any peer it is fetched ahead over HTTP, by as many as Nix asks with', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream(nars);
  let [running, most] = [0, 0];
  // Each takes a turn of the event loop or two, so that there are several at once.
  upstream.intercept = ({ url = '' }, response) => {
    const bytes = url.startsWith('/nar/') ? upstream.files.get(url) : undefined;
    if (bytes === undefined) return false;
    most = Math.max(most, ++running);
    setTimeout(() => {
      running--;
      response.writeHead(200, { 'content-length': bytes.length }).end(bytes);
    }, 5);
    return true;
  };
  const client = await lab.client([upstream], [], { limits: { aheadHttpFetches: 4, aheadQuietMs: 60_000 } });
  await Promise.all(nars.map(({ storeHash }) => get(client.url, `${storeHash}.narinfo`)));
  t.equal(statusOf(client).ahead.fetched, 0);
  await get(client.url, nars[0]?.narInfo.url ?? '');
  await until(() => statusOf(client).nars.http === nars.length);
  t.ok(most > 1 && most <= 5, `${most} at once`);
  for (const nar of nars) t.ok((await get(client.url, nar.narInfo.url)).body.equals(nar.bytes));
  t.match(statusOf(client).ahead, { fetched: nars.length - 1, used: nars.length - 1, unusedBytes: 0 });
  const asked = upstream.requests.filter(({ url }) => url.startsWith('/nar/'));
  t.equal(asked.length, nars.length, 'each is asked for once');
});

t.test('narinfos of megabytes are noted only as far as there is room for them', async (t) => {
  const made = nars.slice(0, 6);
  const long = `System: ${'x'.repeat(1_000_000)}\n`;
  const lab = await Lab.open(t);
  const upstream = await lab.upstream(made);
  for (const { storeHash, narInfo } of made) upstream.put(`${storeHash}.narinfo`, narInfo.text + long);
  const client = await lab.client([upstream], [], { limits: { aheadNotedCharacters: 3_100_000 } });
  for (const { storeHash } of made) await get(client.url, `${storeHash}.narinfo`);
  t.equal(statusOf(client).ahead.noted, 3);
});

t.test('only what Nix asked about, what is small, and so much at a time', async (t) => {
  const large = madeNar({ name: 'large', sizeBytes: 300_000 });
  const made = [...nars.slice(0, 20), large];
  const limits = { aheadBytes: 5 * sizeBytes, aheadFileBytes: 100_000, aheadQuietMs: 60_000 };
  const all = await opened(t, made, limits);
  const asked = [...made.slice(0, 12), large];
  await askNarInfos(all, asked);
  const { client } = all;
  const [first] = made;
  await get(client.url, first?.narInfo.url ?? '');
  await until(() => statusOf(client).nars.swarm === 6);
  t.match(statusOf(client).ahead, { fetched: 5, noted: asked.length - 6 });
  // As Nix goes on, so does this.
  for (const nar of asked) t.ok((await get(client.url, nar.narInfo.url)).body.equals(nar.bytes));
  const { ahead } = statusOf(client);
  t.ok(ahead.fetched >= 8 && ahead.fetched < asked.length - 1, `${ahead.fetched} were fetched`);
  t.equal(ahead.used, ahead.fetched);
  t.match(ahead, { noted: 0, waitingBytes: 0 });
});

t.test('when Nix stops, so does it, and what was in vain is told', async (t) => {
  const all = await opened(t, nars, { aheadQuietMs: 100, aheadBytes: 10 * sizeBytes });
  await askNarInfos(all, nars);
  const { client } = all;
  await get(client.url, nars[0]?.narInfo.url ?? '');
  await until(() => statusOf(client).ahead.unusedBytes > 0);
  const { ahead } = statusOf(client);
  t.ok(ahead.fetched <= 11, `${ahead.fetched} were fetched`);
  t.equal(ahead.waitingBytes, 0);
  await until(() => statusOf(client).transfers.running.length === 0);
  t.ok(statusOf(client).cache.files > 1, 'they are kept like all others');
  const before = statusOf(client).ahead.fetched;
  await Promise.all(nars.map(({ storeHash }) => get(client.url, `${storeHash}.narinfo`)));
  t.equal(statusOf(client).ahead.fetched, before, 'and narinfos do not set it going');
});

t.test('what cannot be had ahead is fetched when it is asked for', async (t) => {
  const all = await opened(t, nars, { aheadQuietMs: 60_000 });
  const { client, catalog } = all;
  await askNarInfos(all, nars);
  await catalog.killSeeds();
  for (const nar of nars) t.ok((await fetchNar(client, nar)).body.equals(nar.bytes));
  t.match(statusOf(client), { failed: 0, wrong: 0 });
});

t.test('a path comes after all that it references, small ones first', async (t) => {
  const storeHash = fc.integer({ min: 0, max: 30 }).map(hashOf);
  const awaited = fc.record({
    storeHash,
    references: fc.array(storeHash, { maxLength: 5 }),
    sizeBytes: fc.nat({ max: 1_000 }),
    fileHash: fc.constant(sha256FromDigest(Buffer.alloc(32))),
  });
  fc.assert(
    fc.property(fc.uniqueArray(awaited, { selector: (each) => each.storeHash, maxLength: 30 }), (list) => {
      const ordered = aheadOrder(list);
      t.equal(new Set(ordered).size, list.length);
      const place = new Map(ordered.map((each, index) => [each.storeHash, index]));
      const inCircle = (from: StoreHash, to: StoreHash, seen = new Set<StoreHash>()): boolean => {
        if (seen.has(from)) return false;
        seen.add(from);
        const { references = [] } = list.find((each) => each.storeHash === from) ?? {};
        return references.some((each) => each === to || inCircle(each, to, seen));
      };
      const circle = list.some((each) =>
        each.references.some(
          (reference) => reference !== each.storeHash && inCircle(reference, each.storeHash),
        ),
      );
      if (circle) return;
      for (const { storeHash: own, references } of ordered)
        for (const each of references)
          if (each !== own && place.has(each)) t.ok((place.get(each) ?? 0) < (place.get(own) ?? 0));
    }),
    { numRuns: 200 },
  );
  const sizes = aheadOrder(
    [3, 1, 2].map((n) => ({
      storeHash: hashOf(n),
      references: [],
      sizeBytes: n,
      fileHash: sha256FromDigest(Buffer.alloc(32)),
    })),
  );
  t.same(
    sizes.map((each) => each.sizeBytes),
    [1, 2, 3],
  );
});

/** Paths 0 to `count` - 1 in a view: n references 2n + 1 and 2n + 2, and itself. */
function viewOf(count: number): {
  narInfo(storeHash: StoreHash): { text: string; fileHash: Sha256 } | undefined;
} {
  const byHash = new Map(Array.from({ length: count }, (_, n) => [hashOf(n), n]));
  return {
    narInfo(storeHash) {
      const n = byHash.get(storeHash);
      if (n === undefined) return undefined;
      const references = [n, 2 * n + 1, 2 * n + 2].map((each) => `${hashOf(each)}-path`).join(' ');
      return { text: `StorePath: x\nReferences: ${references}\nURL: y\n`, fileHash: fileHashOf(n) };
    },
  };
}

t.test('a closure is walked in a view, each path once, the nearest first, within bounds', async (t) => {
  const found: Sha256[] = [];
  const walk = new AheadWalk({
    views: viewOf(100),
    pathsMax: 60,
    onPath: (fileHash) => found.push(fileHash),
  });
  walk.from(hashOf(0), () => [hashOf(1), hashOf(2)]);
  t.equal(found.length, 0, 'not before Nix has its answer');
  await until(() => found.length === 60);
  const expected = Array.from({ length: 60 }, (_, n) => fileHashOf(n + 1));
  t.same(found, expected);
  walk.from(hashOf(61), () => [hashOf(70)]);
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(found.length, 60, 'as many as were allowed');
  walk.begin();
  walk.from(hashOf(61), () => [hashOf(99)]);
  await until(() => found.length === 61);
  await walk.close();
  walk.from(hashOf(0), () => [hashOf(1)]);
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(found.length, 61);
});

function hashOf(n: number): StoreHash {
  return parseStoreHash(nix32Encode(hash('sha256', `path ${n}`, 'buffer').subarray(0, 20)));
}

function fileHashOf(n: number): Sha256 {
  return sha256FromDigest(hash('sha256', `file ${n}`, 'buffer'));
}
