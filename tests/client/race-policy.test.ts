import fc from 'fast-check';
import t from 'tap';
import { raceLimits } from '../../client/config.ts';
import {
  beaten,
  joining,
  type LegView,
  legsMax,
  opening,
  type RaceView,
  startAhead,
} from '../../client/race/race-policy.ts';
import { noPast, SourcePast } from '../../client/race/source-past.ts';

const http: LegView = {
  kind: 'http',
  state: 'giving',
  startedMs: 0,
  helpsSlow: false,
  askedMs: 0,
  atFront: true,
  leads: true,
  silentSinceMs: 1_000,
  behindSinceMs: undefined,
  bytesPerMs: undefined,
  filled: false,
  past: noPast,
};
const swarm: LegView = { ...http, kind: 'swarm' };
const race: RaceView = {
  limits: raceLimits,
  nowMs: 1_000,
  missingBytes: 10_000_000,
  tiny: false,
  legs: [http],
  next: { kind: 'swarm', past: noPast, usedWhenSlow: false, brokeOff: false, gave: false },
};
const httpNext = {
  ...race.next,
  kind: 'http',
  past: noPast,
  usedWhenSlow: false,
  brokeOff: false,
  gave: false,
} as const;

t.test('HTTP begins where peers are not known to be faster', async (t) => {
  const begins = (tiny: boolean, swarm: { warm: boolean } | undefined, http = true) =>
    opening({ tiny, swarm, http });
  t.same(begins(true, { warm: false }), { kind: 'http', why: 'tiny-cold' });
  t.same(begins(true, { warm: true }), { kind: 'swarm', why: 'tiny-warm' });
  t.same(begins(false, undefined), { kind: 'http', why: 'peers-unknown' });
  t.same(begins(false, { warm: false }), { kind: 'swarm', why: 'peers-known' });
  t.same(begins(true, { warm: false }, false), { kind: 'swarm', why: 'no-http' });
  t.equal(begins(true, undefined, false), undefined);
});

t.test('without a live peer HTTP is asked after 20 ms', async (t) => {
  const holding: LegView = { ...swarm, state: 'holding', leads: false, silentSinceMs: undefined };
  const view = { ...race, legs: [holding], next: httpNext };
  t.same(joining({ ...view, nowMs: 19 }), { lookMs: 20 });
  t.same(joining({ ...view, nowMs: 20 }), { why: 'no-live-peer' });
});

t.test('a tiny file from a warm peer is helped by HTTP after its usual time, not before 20 ms', async (t) => {
  const asked: LegView = { ...swarm, state: 'asked', leads: false };
  const view = { ...race, tiny: true, legs: [asked], next: httpNext };
  t.same(joining(view), { lookMs: 1_020 });
  const past = { firstByteMs: 40, firstByteP90Ms: 60 };
  t.same(joining({ ...view, legs: [{ ...asked, past }] }), { lookMs: 1_060 });
  t.same(joining({ ...view, nowMs: 1_060, legs: [{ ...asked, past }] }), { why: 'late' });
  const silent = { firstByteP90Ms: 5_000, answeredP90Ms: 60 };
  t.same(joining({ ...view, legs: [{ ...asked, past: silent }] }), { lookMs: 1_120 });
});

t.test(
  'peers that broke off, of which it is not known how fast they are, are tried beside HTTP that takes long',
  async (t) => {
    const slow: LegView = { ...http, bytesPerMs: 1_800 };
    const next = { kind: 'swarm', past: noPast, usedWhenSlow: false, brokeOff: true, gave: false } as const;
    const why = (view: Partial<RaceView>) => joining({ ...race, legs: [slow], next, ...view }).why;
    t.equal(why({}), 'slow');
    t.equal(why({ missingBytes: 1_700_000 }), undefined, 'not for the last second');
    t.equal(
      why({ next: { ...next, brokeOff: false, gave: false } }),
      undefined,
      'not those that HTTP has beaten',
    );
    t.equal(why({ next: { ...next, usedWhenSlow: true } }), undefined, 'nor again and again');
    t.equal(
      why({ next: { ...next, past: { bytesPerMs: 2_000 } } }),
      undefined,
      'nor those known not to be worth it',
    );
    t.equal(
      why({ next: { ...next, kind: 'http' }, legs: [slow] }),
      undefined,
      'a cache beside a cache is another matter',
    );
  },
);

t.test(
  'peers that gave until they broke off are asked again beside a cache that has not answered yet',
  async (t) => {
    const asked: LegView = { ...http, state: 'asked', leads: false };
    const next = { kind: 'swarm', past: noPast, usedWhenSlow: false, brokeOff: true, gave: true } as const;
    const why = (view: Partial<RaceView>) => joining({ ...race, legs: [asked], next, ...view }).why;
    t.equal(why({}), 'failed');
    t.equal(why({ legs: [{ ...asked, state: 'giving' }] }), undefined);
    t.equal(why({ legs: [asked, asked] }), 'failed');
    t.equal(why({ legs: [{ ...swarm, state: 'asked' }] }), undefined);
    t.equal(why({ next: { ...next, gave: false } }), undefined);
    t.equal(why({ next: { ...next, brokeOff: false } }), undefined);
  },
);

t.test('a source is late by its own past, within bounds', async (t) => {
  const lookMs = (leg: Partial<LegView>) => joining({ ...race, legs: [{ ...http, ...leg }] }).lookMs;
  t.equal(lookMs({}), 1_000 + raceLimits.lateGapMs);
  t.equal(lookMs({ past: { gapP90Ms: 80 } }), 1_160);
  t.equal(lookMs({ past: { gapP90Ms: 1 } }), 1_000 + raceLimits.lateLeastMs);
  t.equal(lookMs({ past: { gapP90Ms: 9_000 } }), 1_000 + raceLimits.lateMostMs);
  t.equal(lookMs({ state: 'asked' }), 1_000 + raceLimits.lateFirstByteMs);
  t.equal(lookMs({ state: 'asked', past: { answeredP90Ms: 300 } }), 1_600);
  const hung = new SourcePast();
  for (let time = 0; time < 10; time++) hung.tookAtLeast(2_000);
  t.equal(
    lookMs({ state: 'asked', past: hung.view() }),
    1_000 + raceLimits.lateFirstByteMs,
    'silence earns no time',
  );
});

t.test('who was asked because another one is late has its own time before a third is asked', async (t) => {
  const second: LegView = { ...http, state: 'asked', leads: false, startedMs: 2_000, silentSinceMs: 2_000 };
  const view = { ...race, legs: [http, second], nowMs: 2_100 };
  t.same(joining(view), { lookMs: 2_000 + raceLimits.lateFirstByteMs });
  t.same(joining({ ...view, nowMs: 2_400 }), { why: 'late' });
  t.same(joining({ ...view, nowMs: 2_400, legs: [http, second, second] }), {}, 'three are enough');
});

t.test('a source below its past, or below what another one could give, is helped', async (t) => {
  const at = (bytesPerMs: number, own?: number, other?: number, more: Partial<RaceView> = {}) =>
    joining({
      ...race,
      legs: [{ ...swarm, bytesPerMs, past: own === undefined ? {} : { bytesPerMs: own } }],
      next: { ...httpNext, past: other === undefined ? {} : { bytesPerMs: other } },
      ...more,
    }).why;
  t.equal(at(1_000, undefined, 1_000), undefined);
  t.equal(at(1_000, 1_500, 1_000), undefined);
  t.equal(at(1_000, 2_500, 1_000), 'slow');
  t.equal(at(1_000), 'slow', 'what HTTP could give is tried');
  t.equal(at(20_000), undefined, 'what is left does not take long enough for that');
  t.equal(at(1_000, undefined, undefined, { missingBytes: undefined }), undefined);
  t.equal(at(1_000, 1_000, 1_200), undefined);
  t.equal(at(1_000, 1_000, 2_000), 'slow');
  t.equal(at(1_000, 2_500, 2_500, { missingBytes: 100_000 }), undefined, 'it is nearly over');
});

t.test('the loser is stopped at once when it has nothing to show', async (t) => {
  const nothing: LegView = { ...http, state: 'asked', leads: false, startedMs: 900, silentSinceMs: 900 };
  t.same(beaten([swarm, nothing], 1_000).stop, [1]);
  t.same(beaten([http, nothing], 1_000).stop, [1]);
  t.same(beaten([nothing, swarm], 1_000).stop, [0]);
  t.same(beaten([{ ...swarm, silentSinceMs: 800 }, nothing], 1_000).stop, [], 'that is why it was asked');
});

t.test('a peer that was asked has a moment to overtake HTTP, one that was not costs nothing', async (t) => {
  const asked: LegView = { ...swarm, state: 'asked', leads: false, askedMs: 950, startedMs: 900 };
  const { stop, lookMs = 0 } = beaten([http, asked], 1_000);
  t.same(stop, []);
  t.same(beaten([http, asked], lookMs).stop, [1]);
  t.same(beaten([http, { ...asked, state: 'holding' }], 60_000).stop, []);
  t.same(beaten([http, { ...asked, atFront: false }], 60_000).stop, [], 'it is ahead');
});

t.test(
  'of two that give the slower one is stopped, HTTP also when the swarm is nearly as fast',
  async (t) => {
    const pair = (swarmRate: number, httpRate: number, swarmLeads: boolean): number[] =>
      beaten(
        [
          { ...swarm, bytesPerMs: swarmRate, leads: swarmLeads, behindSinceMs: swarmLeads ? undefined : 990 },
          { ...http, bytesPerMs: httpRate, leads: !swarmLeads, behindSinceMs: swarmLeads ? 990 : undefined },
        ],
        1_000,
      ).stop;
    t.same(pair(100, 110, true), [1]);
    t.same(pair(100, 200, true), []);
    t.same(pair(100, 200, false), [0]);
    t.same(pair(200, 100, false), [], 'the swarm will overtake');
    const [behind, leader] = [{ ...http, leads: false, behindSinceMs: 600 }, swarm];
    t.same(beaten([leader, behind], 1_000).stop, [1], 'not for long');
  },
);

t.test('a leg that joins begins where the one that runs will be', async (t) => {
  const pieceLength = 65_536;
  const options = { nowMs: 1_000, front: 1_000_000, sizeBytes: 50_000_000, pieceLength, reachedMs: 0 };
  const running: LegView = { ...http, bytesPerMs: 10_000 };
  const past = { firstByteMs: 100 };
  const from = startAhead({ ...options, past, running }) ?? 0;
  t.equal(from % pieceLength, 0);
  t.ok(from >= 2_500_000 && from < 2_500_000 + pieceLength);
  t.equal(startAhead({ ...options, past, running: undefined }), 1_000_000);
  t.equal(startAhead({ ...options, past, running: http }), 1_000_000, 'nothing is known of the other');
  t.equal(
    startAhead({ ...options, past, running, sizeBytes: 2_000_000 }),
    undefined,
    'nothing would be left',
  );
  const silent: LegView = { ...running, state: 'asked', silentSinceMs: 500, past: { firstByteMs: 40 } };
  t.equal(startAhead({ ...options, past, running: silent }), 1_000_000, 'the other is overdue');
  const slow: LegView = { ...http, bytesPerMs: 10 };
  t.equal(startAhead({ ...options, past, running: slow }), 1_000_000, 'it would take long to the next piece');
});

const legs = fc.record<LegView>({
  kind: fc.constantFrom('swarm', 'http'),
  state: fc.constantFrom('opening', 'holding', 'asked', 'giving'),
  startedMs: fc.nat(5_000),
  helpsSlow: fc.boolean(),
  askedMs: fc.nat(5_000),
  atFront: fc.boolean(),
  leads: fc.boolean(),
  silentSinceMs: fc.option(fc.nat(5_000), { nil: undefined }),
  behindSinceMs: fc.option(fc.nat(5_000), { nil: undefined }),
  bytesPerMs: fc.option(fc.double({ min: 0, max: 1e6, noNaN: true }), { nil: undefined }),
  filled: fc.boolean(),
  past: fc.record({ firstByteMs: fc.nat(3_000), answeredP90Ms: fc.nat(9_000), gapP90Ms: fc.nat(9_000) }),
});

t.test('there is always somebody, never too many, and always a next look', async (t) => {
  fc.assert(
    fc.property(fc.array(legs, { minLength: 1, maxLength: legsMax }), fc.nat(60_000), (some, nowMs) => {
      const [first, ...others] = some;
      const views = [
        { ...first, leads: true } as LegView,
        ...others.map((leg) => ({ ...leg, leads: false })),
      ];
      const { stop } = beaten(views, nowMs);
      if (stop.length >= views.length) return false;
      // Whoever leads is never stopped, nor who is ahead.
      if (stop.some((at) => views[at]?.leads || !views[at]?.atFront)) return false;
      const { why, lookMs } = joining({ ...race, nowMs, legs: views, next: httpNext });
      if (why !== undefined) return views.length < legsMax;
      const waitedFor = views.some(({ atFront }) => atFront);
      return !waitedFor || views.length >= legsMax || (lookMs !== undefined && lookMs > nowMs);
    }),
  );
  t.pass();
});

t.test('a leg that joins never begins before the front or after the end', async (t) => {
  const past = fc.record({ firstByteMs: fc.double({ min: 0, max: 5_000, noNaN: true }) });
  fc.assert(
    fc.property(
      legs,
      past,
      fc.nat(1e8),
      fc.nat(1e8),
      fc.integer({ min: 16, max: 22 }),
      (leg, own, a, b, log) => {
        const [front, sizeBytes] = [Math.min(a, b), Math.max(a, b) + 1];
        const pieceLength = 2 ** log;
        const from = startAhead({
          nowMs: 5_000,
          front,
          sizeBytes,
          pieceLength,
          past: own,
          reachedMs: 0,
          running: leg,
        });
        return from === undefined || (from >= front && from < sizeBytes);
      },
    ),
  );
  t.pass();
});

/** Sources that give at even rates after some time, run through the policy with a clock of its own. */
function run(options: { sizeBytes: number; http: Giver; swarm: Giver; liveMs: number }): {
  tookMs: number;
  httpBytes: number;
} {
  const { sizeBytes, liveMs } = options;
  const pieceLength = 65_536;
  interface Runner {
    view: LegView;
    giver: Giver;
    from: number;
  }
  let front = 0;
  let httpBytes = 0;
  const start = (kind: 'swarm' | 'http', nowMs: number): Runner => ({
    giver: options[kind],
    from: 0,
    view: {
      ...http,
      kind,
      state: kind === 'http' ? 'asked' : 'holding',
      leads: false,
      startedMs: nowMs,
      askedMs: nowMs,
      silentSinceMs: kind === 'http' ? nowMs : undefined,
    },
  });
  let runners = [start('swarm', 0)];
  for (let nowMs = 0; nowMs < 1e6; nowMs++) {
    for (const runner of runners) {
      const { view, giver } = runner;
      if (view.state === 'holding' && nowMs >= liveMs) {
        const running = runners.find(({ view }) => view.kind === 'http')?.view;
        const reachedMs = nowMs - view.startedMs;
        const from = startAhead({ nowMs, front, sizeBytes, pieceLength, past: noPast, reachedMs, running });
        runner.from = from ?? sizeBytes;
        runner.view = { ...view, state: 'asked', askedMs: nowMs, silentSinceMs: nowMs };
      } else if (view.state !== 'holding') {
        const at = runner.from + Math.max(0, nowMs - view.askedMs - giver.firstByteMs) * giver.bytesPerMs;
        const gives = at > runner.from;
        const reached = runner.from <= front;
        if (gives && reached && at > front) {
          if (view.kind === 'http') httpBytes += Math.min(at, sizeBytes) - front;
          front = at;
          for (const other of runners) other.view = { ...other.view, leads: other === runner };
        }
        runner.view = {
          ...runner.view,
          state: gives ? 'giving' : 'asked',
          atFront: reached,
          silentSinceMs: gives ? nowMs : view.silentSinceMs,
          behindSinceMs: at < front ? (view.behindSinceMs ?? nowMs) : undefined,
          bytesPerMs: gives ? giver.bytesPerMs : undefined,
        };
      }
    }
    if (front >= sizeBytes) return { tookMs: nowMs, httpBytes };
    const views = runners.map(({ view }) => view);
    const { stop } = beaten(views, nowMs);
    runners = runners.filter((_, at) => !stop.includes(at));
    const has = runners.some(({ view }) => view.kind === 'http');
    const { why } = joining({
      ...race,
      nowMs,
      missingBytes: sizeBytes - front,
      legs: runners.map(({ view }) => view),
      next: has ? undefined : { ...httpNext, past: { bytesPerMs: options.http.bytesPerMs } },
    });
    if (why === undefined) continue;
    const runner = start('http', nowMs);
    runner.from = front;
    runners.push({ ...runner, view: { ...runner.view, helpsSlow: why === 'slow' } });
  }
  throw new Error('it never ended');
}

interface Giver {
  firstByteMs: number;
  bytesPerMs: number;
}

t.test('no file takes much longer than over HTTP alone, whatever the swarm is like', async (t) => {
  const giver = fc.record({
    firstByteMs: fc.integer({ min: 1, max: 300 }),
    bytesPerMs: fc.integer({ min: 100, max: 50_000 }),
  });
  const size = fc.integer({ min: 300_000, max: 60_000_000 });
  fc.assert(
    fc.property(size, giver, giver, fc.integer({ min: 1, max: 3_000 }), (sizeBytes, http, swarm, liveMs) => {
      const { tookMs } = run({ sizeBytes, http, swarm, liveMs });
      const aloneMs = http.firstByteMs + sizeBytes / http.bytesPerMs;
      // What it takes to notice and to change over: a late start, and a swarm that was tried in vain.
      return tookMs <= aloneMs * 1.2 + 1_100;
    }),
    {
      numRuns: 60,
      examples: [
        [1_778_401, { firstByteMs: 201, bytesPerMs: 2_407 }, { firstByteMs: 3, bytesPerMs: 800 }, 1],
      ],
    },
  );
  t.pass();
});

t.test('a fast swarm that is late spares the upstream most of a large file', async (t) => {
  const http = { firstByteMs: 50, bytesPerMs: 10_000 };
  const { tookMs, httpBytes } = run({
    sizeBytes: 60_000_000,
    http,
    swarm: { firstByteMs: 50, bytesPerMs: 20_000 },
    liveMs: 200,
  });
  t.ok(httpBytes < 6_000_000, `${httpBytes} bytes over HTTP`);
  t.ok(tookMs < 6_050);
});
