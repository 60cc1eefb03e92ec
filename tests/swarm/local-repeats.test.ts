/** By a virtual clock: what is said again in the local network, and how often at most. */

import t from 'tap';
import { type InfoHash, parseInfoHash } from '../../nar/hash.ts';
import { LocalRepeats, type LocalShares } from '../../swarm/local/local-repeats.ts';

const secondMs = 1_000;
const minuteMs = 60 * secondMs;
const limits = { againMs: 5 * minuteMs, packetMs: minuteMs, packetInfoHashes: 24 };
const infoHashes = Array.from({ length: 400 }, (_, index) =>
  parseInfoHash((index + 1).toString(16).padStart(40, '0')),
);

interface Said {
  atMs: number;
  word: 'ask' | 'have';
  infoHashes: InfoHash[];
}

/** All that is said until `untilMs`, looked for every ten seconds. `at` is called before each look. */
function saidUntil(
  untilMs: number,
  shares: LocalShares | ((atMs: number) => LocalShares),
  at: (atMs: number, repeats: LocalRepeats) => void = () => undefined,
): Said[] {
  const repeats = new LocalRepeats(limits, 0);
  const said: Said[] = [];
  for (let atMs = 0; atMs <= untilMs; atMs += 10 * secondMs) {
    at(atMs, repeats);
    const next = repeats.next(() => (typeof shares === 'function' ? shares(atMs) : shares), atMs);
    if (next !== undefined) said.push({ atMs, ...next });
  }
  return said;
}

function timesOf(said: readonly Said[], infoHash: InfoHash | undefined): number[] {
  return said.filter((each) => each.infoHashes.some((one) => one === infoHash)).map(({ atMs }) => atMs);
}

t.test('one torrent is said again every five minutes', async (t) => {
  const said = saidUntil(21 * minuteMs, { fetched: [], kept: infoHashes.slice(0, 1) });
  t.same(
    said.map(({ atMs }) => atMs / minuteMs),
    [6, 11, 16, 21],
  );
});

t.test('there is no more than one packet a minute, and who was first stays first', async (t) => {
  const said = saidUntil(60 * minuteMs, { fetched: [], kept: infoHashes });
  for (const [index, { atMs, infoHashes }] of said.entries()) {
    t.ok(infoHashes.length <= limits.packetInfoHashes);
    t.ok(atMs - (said[index - 1]?.atMs ?? -minuteMs) >= minuteMs, `a minute before the one at ${atMs}`);
  }
  const max = 120;
  for (const infoHash of infoHashes.slice(0, max)) {
    const times = timesOf(said, infoHash);
    t.ok(times.length >= 10, `said ${times.length} times`);
    t.ok(times.every((atMs, index) => atMs - (times[index - 1] ?? -limits.againMs) >= limits.againMs));
  }
  t.same(
    said.flatMap(({ infoHashes }) => infoHashes).filter((each) => infoHashes.indexOf(each) >= max),
    [],
  );
});

t.test('no more torrents are asked for than there are packets for', async (t) => {
  const repeats = new LocalRepeats(limits, 0);
  let asked = 0;
  repeats.next((torrentsMax) => {
    asked = torrentsMax;
    return { fetched: [], kept: [] };
  }, minuteMs);
  t.equal(asked, 120);
});

t.test('what is fetched is asked for, and goes before what is kept', async (t) => {
  const fetched = infoHashes.slice(0, 3);
  const said = saidUntil(7 * minuteMs, { fetched, kept: infoHashes.slice(2, 6) });
  t.same(said, [
    { atMs: 6 * minuteMs, word: 'ask', infoHashes: fetched },
    { atMs: 7 * minuteMs, word: 'have', infoHashes: infoHashes.slice(3, 6) },
  ]);
});

t.test('what was said meanwhile waits five minutes from then', async (t) => {
  const [first = '' as InfoHash, second] = infoHashes;
  const said = saidUntil(12 * minuteMs, { fetched: [], kept: infoHashes.slice(0, 2) }, (atMs, repeats) => {
    if (atMs === 4 * minuteMs) repeats.said(first, atMs);
  });
  t.same(timesOf(said, first), [9 * minuteMs]);
  t.same(timesOf(said, second), [6 * minuteMs, 11 * minuteMs]);
});

t.test('what is shared no more is not said, and what comes later was said when it came', async (t) => {
  const [gone, late] = infoHashes;
  const said = saidUntil(14 * minuteMs, (atMs) => ({
    fetched: [],
    kept: infoHashes.slice(atMs < 6 * minuteMs ? 0 : 1, atMs < 8 * minuteMs ? 1 : 2),
  }));
  t.same(timesOf(said, gone), []);
  t.same(timesOf(said, late), [13 * minuteMs]);
});
