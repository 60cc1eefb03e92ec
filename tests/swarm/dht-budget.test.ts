/** Which torrents are announced, with a virtual clock. */

import fc from 'fast-check';
import t from 'tap';
import { type InfoHash, parseInfoHash } from '../../nar/hash.ts';
import { type BudgetLimits, DhtBudget } from '../../swarm/dht/dht-budget.ts';
import { dhtLimits } from '../../swarm/dht/dht-limits.ts';

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;

function torrent(number: number): InfoHash {
  return parseInfoHash(number.toString(16).padStart(40, '0'));
}

function budgetWith(limits: Partial<BudgetLimits> = {}): DhtBudget {
  return new DhtBudget({ ...dhtLimits, ...limits });
}

/** Everything that is announced from `fromMs` until before `untilMs`, looked at every second. */
function announced(budget: DhtBudget, fromMs: number, untilMs: number): [InfoHash, number][] {
  const all: [InfoHash, number][] = [];
  for (let nowMs = fromMs; nowMs < untilMs; nowMs += 1_000) {
    for (let next = budget.next(nowMs); next !== undefined; next = budget.next(nowMs))
      all.push([next, nowMs]);
  }
  return all;
}

t.test('what nobody asked for is not announced', async (t) => {
  t.strictSame(announced(budgetWith(), 0, minuteMs), []);
});

t.test('what is asked for is announced at once, and again after twenty minutes', async (t) => {
  const budget = budgetWith();
  budget.note(torrent(1), 0);
  const times = announced(budget, 0, hourMs).map(([, nowMs]) => nowMs);
  t.strictSame(times, [0, 20 * minuteMs, 40 * minuteMs]);
});

t.test('no minute has more announces than allowed, whatever is asked for and when', async () => {
  const demand = fc.array(fc.tuple(fc.nat(60), fc.nat(20 * minuteMs)), { maxLength: 200 });
  fc.assert(
    fc.property(demand, fc.integer({ min: 1, max: 30 }), (notes, announcesPerMinute) => {
      const budget = budgetWith({ announcesPerMinute, reannounceMs: 15 * minuteMs, torrentsMax: 40 });
      const times: number[] = [];
      const byTime = notes.sort(([, a], [, b]) => a - b);
      for (let nowMs = 0; nowMs < 30 * minuteMs; nowMs += 700) {
        while (byTime[0] !== undefined && byTime[0][1] <= nowMs)
          budget.note(torrent(byTime.shift()?.[0] ?? 0), nowMs);
        if (budget.size > 40) return false;
        for (let next = budget.next(nowMs); next !== undefined; next = budget.next(nowMs)) times.push(nowMs);
      }
      return times.every(
        (from) => times.filter((time) => time >= from && time < from + minuteMs).length <= announcesPerMinute,
      );
    }),
    { numRuns: 100 },
  );
});

t.test('the hottest comes first, and heat halves in half an hour', async (t) => {
  const budget = budgetWith({ announcesPerMinute: 1 });
  for (const atMs of [0, 10_000, 20_000]) budget.note(torrent(1), atMs);
  const laterMs = hourMs;
  budget.note(torrent(2), laterMs);
  budget.note(torrent(3), laterMs);
  budget.note(torrent(3), laterMs + 10_000);
  const order = announced(budget, laterMs + 10_000, laterMs + 5 * minuteMs).map(([infoHash]) => infoHash);
  // Two notes now, one now, three an hour ago, which are worth less than one.
  t.strictSame(order, [torrent(3), torrent(2), torrent(1)]);
});

t.test('many notes in a moment are one demand', async (t) => {
  const budget = budgetWith({ announcesPerMinute: 1 });
  for (let i = 0; i < 1_000; i++) budget.note(torrent(1), i);
  budget.note(torrent(2), 0);
  budget.note(torrent(2), 10_000);
  t.equal(budget.next(10_000), torrent(2));
});

t.test('what was asked for longest ago is forgotten when there are too many', async (t) => {
  const budget = budgetWith({ torrentsMax: 2 });
  budget.note(torrent(1), 0);
  budget.note(torrent(2), 1);
  budget.note(torrent(1), 20_000);
  budget.note(torrent(3), 20_001);
  t.equal(budget.size, 2);
  const left = announced(budget, 30_000, 2 * minuteMs).map(([infoHash]) => infoHash);
  t.strictSame(left.sort(), [torrent(1), torrent(3)]);
});

t.test('what nobody asked for in two hours is no longer announced', async (t) => {
  const budget = budgetWith();
  budget.note(torrent(1), 0);
  const times = announced(budget, 0, 5 * hourMs).map(([, nowMs]) => nowMs);
  t.equal(times.at(-1), hourMs + 40 * minuteMs);
  t.equal(budget.size, 0);
});

t.test('an announce that reached nobody is made again after two minutes', async (t) => {
  const budget = budgetWith();
  budget.note(torrent(1), 0);
  t.equal(budget.next(0), torrent(1));
  budget.failed(torrent(1), 3_000);
  t.strictSame(announced(budget, 3_000, 10 * minuteMs), [[torrent(1), 3_000 + 2 * minuteMs]]);
  budget.failed(torrent(9), 0);
  t.equal(budget.size, 1, 'what is not remembered is not remembered for failing');
});

t.test('asking again does not bring the next announce forward', async (t) => {
  const budget = budgetWith();
  budget.note(torrent(1), 0);
  t.equal(budget.next(0), torrent(1));
  budget.note(torrent(1), minuteMs);
  t.strictSame(announced(budget, minuteMs, 20 * minuteMs), []);
});

t.test('what is pinned is announced before what is asked for, and as long as it is pinned', async (t) => {
  const budget = budgetWith({ announcesPerMinute: 1 });
  for (let n = 0; n < 10; n++) budget.note(torrent(1), n * 20_000);
  budget.pin(torrent(2));
  t.equal(budget.next(200_000), torrent(2));
  t.equal(budget.next(201_000), undefined, 'within the rate of all announces');
  budget.failed(torrent(2), 210_000);
  t.equal(budget.next(260_000), torrent(1));
  t.equal(budget.next(330_000), torrent(2), 'after a failure again sooner');
  budget.pin(torrent(2));
  const times = announced(budget, 330_000, 8 * hourMs).filter(([infoHash]) => infoHash === torrent(2));
  t.equal(times.length, 23, 'every twenty minutes, pinned twice or once, and hours after anybody asked');
  budget.unpin(torrent(2));
  t.strictSame(announced(budget, 8 * hourMs, 9 * hourMs), []);
});
