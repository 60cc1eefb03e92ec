/** How long NAR files have had how many seeds: counted at looks, kept over restarts, told in three formats. */

import { hash } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { type Sha256, sha256FromDigest } from '../../nar/hash.ts';
import { Availability, blindMaxMs, seedsMax } from '../../parts/availability.ts';
import {
  printReport,
  type ReportRule,
  type ReportSource,
  reportRows,
} from '../../parts/availability-report.ts';
import { addAvailability } from '../../parts/availability-route.ts';
import { AvailabilityWatch } from '../../parts/availability-watch.ts';
import { makeApp } from '../../web/app.ts';
import { silentLogger } from '../../web/log.ts';

const minute = 60_000;
const day = 24 * 60 * minute;
const start = 1_800_000_000_000;

function fileHash(n: number): Sha256 {
  return sha256FromDigest(hash('sha256', `file ${n}`, 'buffer'));
}

const rule: ReportRule = { seeds: 2, days: 3, only: 'all' };

function sourceOf(availability: Availability, nowMs: number): ReportSource {
  const nar = (ordinal: number) =>
    ordinal === 3
      ? undefined
      : { fileHash: fileHash(ordinal), fileSize: 1_000 + ordinal, storePath: `/nix/store/x-${ordinal}` };
  return { availability, nar, nowMs, counted: 'A seed is a mirror.' };
}

/** Looks every hour, with seeds by ordinal. */
async function lookFor(
  availability: Availability,
  seeds: number[],
  fromMs: number,
  days: number,
): Promise<number> {
  let now = fromMs;
  for (; now <= fromMs + days * day; now += 60 * minute)
    await availability.look(seeds.length, (ordinal) => seeds[ordinal] ?? 0, now);
  return now - 60 * minute;
}

async function states(availability: Availability, nowMs: number): Promise<string[]> {
  const rows = [];
  for await (const { state, seeds } of reportRows(sourceOf(availability, nowMs), rule))
    rows.push(`${state} ${seeds}`);
  return rows;
}

t.test('what has had enough seeds for long enough is safe, what has none is endangered', async (t) => {
  const path = join(t.testdir(), 'seeds');
  let availability = await Availability.open(path, fileHash(0));
  let now = await lookFor(availability, [0, 1, 2, 5, 20], start, 2);
  t.strictSame(await states(availability, now), ['endangered 0', 'seeded 1', 'seeded 2', 'seeded 8']);
  await availability.close();
  // The times outlast the program.
  availability = await Availability.open(path, fileHash(0));
  now = await lookFor(availability, [0, 1, 2, 5, 1], now, 1);
  t.strictSame(await states(availability, now), ['endangered 0', 'seeded 1', 'safe 2', 'seeded 1']);
  now = await lookFor(availability, [0, 1, 0, 5, 2], now + minute, 2);
  t.strictSame(await states(availability, now), ['endangered 0', 'seeded 1', 'endangered 0', 'seeded 2']);
  await availability.close();
});

t.test('nobody knows what was there while nobody looked: after a day the times begin anew', async (t) => {
  const availability = await Availability.open(join(t.testdir(), 'seeds'), fileHash(0));
  const now = await lookFor(availability, [3], start, 4);
  t.strictSame(await states(availability, now), ['safe 3']);
  await availability.look(1, () => 3, now + blindMaxMs);
  t.strictSame(await states(availability, now + blindMaxMs), ['safe 3']);
  await availability.look(1, () => 3, now + 2 * blindMaxMs + minute);
  t.strictSame(await states(availability, now + 2 * blindMaxMs + minute), ['seeded 3']);
  await availability.close();
});

t.test('the times of another catalog, or what is no such file, are not believed', async (t) => {
  const path = join(t.testdir({ rubbish: 'x'.repeat(1_000) }), 'seeds');
  const first = await Availability.open(path, fileHash(0));
  const now = await lookFor(first, [3], start, 4);
  await first.close();
  const other = await Availability.open(path, fileHash(1));
  t.strictSame(await states(other, now), []);
  await other.close();
  const rubbish = await Availability.open(join(t.testdirName, 'rubbish'), fileHash(0));
  t.strictSame(await states(rubbish, now), []);
  t.equal((await readFile(join(t.testdirName, 'rubbish'))).length, 56);
  await rubbish.close();
  await t.rejects(Availability.open(join(path, 'nowhere'), fileHash(0)), { code: 'store-failed' });
});

t.test('since when there are so many is the first look of the last unbroken row of looks', async (t) => {
  let n = 0;
  t.testdir();
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(10), { minLength: 1, maxLength: 30 }), async (seeds) => {
      const availability = await Availability.open(join(t.testdirName, `${n++}`), undefined);
      for (const [at, count] of seeds.entries()) await availability.look(1, () => count, start + at * minute);
      const expected = Array.from({ length: seedsMax }, (_, level) => {
        const last = seeds.findLastIndex((count) => count <= level);
        return last === seeds.length - 1 ? 0 : start + (last + 1) * minute;
      });
      for await (const { sinceMs } of availability.times()) t.strictSame(sinceMs, expected);
      await availability.close();
    }),
    { numRuns: 30 },
  );
});

t.test('CSV and JSON have every NAR file, text the figures; over HTTP as well', async (t) => {
  const availability = await Availability.open(join(t.testdir(), 'seeds'), fileHash(0));
  t.teardown(() => availability.close());
  const now = await lookFor(availability, [0, 1, 2, 5, 20], start, 4);
  const source = sourceOf(availability, now);
  const text = async (format: 'text' | 'json' | 'csv', only: ReportRule['only'] = 'all') => {
    let out = '';
    for await (const part of printReport(source, { ...rule, only }, format)) out += part;
    return out;
  };
  const csv = (await text('csv')).split('\n');
  t.equal(csv.length, 1 + 4 + 1);
  t.equal(csv[1], `${fileHash(0)},1000,endangered,0,,/nix/store/x-0`);
  t.equal(csv[3], `${fileHash(2)},1002,safe,2,${new Date(start).toISOString()},/nix/store/x-2`);
  t.equal((await text('csv', 'safe')).split('\n').length, 1 + 2 + 1);
  const json = JSON.parse(await text('json'));
  t.match(json, { nars: { length: 4 }, sums: { safe: { nars: 2, bytes: 2_006 }, endangered: { nars: 1 } } });
  t.match(await text('text'), /2 or more seeds for 3 days or more: 2 NAR files, 2\.0 KiB/);

  const app = makeApp({
    logger: silentLogger,
    routes: (router) => addAvailability(router, async () => source),
  });
  const server = createServer(app).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/availability`;
  const answer = await fetch(`${url}?seeds=2&days=3&format=csv`);
  t.match(answer.headers.get('content-type'), /^text\/csv/);
  t.equal(await answer.text(), csv.join('\n'));
  t.equal((await fetch(`${url}?seeds=9`)).status, 400);
  t.equal((await fetch(`${url}?format=xml`)).status, 400);
  server.close();
  server.closeAllConnections();
});

t.test('a watch counts when it is due, about whatever catalog there is by then', async (t) => {
  const catalog = { ordinals: 0, byOrdinal: (ordinal: number) => fileHash(ordinal) };
  const watch = new AvailabilityWatch({
    path: join(t.testdir(), 'seeds'),
    catalog,
    seeds: () => (ordinal) => ordinal,
    nar: (ordinal) => ({ fileHash: fileHash(ordinal), fileSize: 1, storePath: undefined }),
    counted: '',
    logger: silentLogger,
    now: () => start,
    firstLookMs: 1,
  });
  t.teardown(() => watch.close());
  t.equal(await watch.source(), undefined, 'nothing to report of an empty catalog');
  catalog.ordinals = 3;
  const looked = await watch.look().then(() => watch.source());
  t.ok(looked);
  const rows = [];
  if (looked !== undefined) for await (const { seeds } of reportRows(looked, rule)) rows.push(seeds);
  t.strictSame(rows, [0, 1, 2]);
});
