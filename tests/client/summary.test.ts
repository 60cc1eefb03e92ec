import t from 'tap';
import { SourceTotals } from '../../client/report/source-totals.ts';
import { clientSummary, type SummaryOf } from '../../client/report/summary.ts';
import type { NarStory, StoryLeg } from '../../client/story.ts';
import { madeNar } from './made-nar.ts';

const mib = 1024 * 1024;
const nothing: SummaryOf = {
  nars: { swarm: 0, http: 0, mixed: 0, held: 0 },
  bytes: { swarm: 0, http: 0, held: 0 },
  savedMs: 0,
  failed: 0,
  wrong: 0,
  share: undefined,
  traffic: { uploadedBytes: 0, downloadedBytes: 0 },
  upstreams: [],
  catalogs: [],
  views: [],
  clock: () => 1_000,
};
const summary = (more: Partial<SummaryOf>): string[] => clientSummary({ ...nothing, ...more });

t.test('the first line says what came from where, and what that saved', async (t) => {
  t.equal(
    summary({ nars: { swarm: 290, http: 20, mixed: 0, held: 2 }, savedMs: 41_000 })[0],
    '312 NARs: 290 from peers, 20 over HTTP, 2 held; 41 s faster than HTTP alone.',
  );
  t.equal(
    summary({ nars: { swarm: 0, http: 0, mixed: 1, held: 0 }, savedMs: -1_500 })[0],
    '1 NAR: 1 from peers and over HTTP; 1.5 s SLOWER than HTTP alone.',
  );
  t.equal(
    summary({ nars: { swarm: 1, http: 1, mixed: 0, held: 0 }, savedMs: 20 })[0],
    '2 NARs: 1 from peers, 1 over HTTP.',
  );
  t.match(summary({})[0], /^No NAR was asked for/);
});

t.test('what is wrong is said, and not when nothing is', async (t) => {
  t.same(summary({}).length, 3);
  const lines = summary({
    failed: 1,
    wrong: 2,
    upstreams: [
      { url: 'https://one.example', state: 'asked' },
      { url: 'https://two.example', state: 'resting' },
    ],
    catalogs: [{ url: 'http://three.example', state: 'resting' }],
    views: [
      { name: 'a', catalog: 'k', paths: 1_234, expiresMs: 2_000 },
      { name: 'b', catalog: 'k', paths: 1, expiresMs: 500 },
      { name: 'c', catalog: 'k', paths: 0, error: 'head-expired' },
    ],
  });
  for (const line of [
    '1 could be had from nobody: Nix went on to its next substituter.',
    'Wrong bytes were thrown away 2 times.',
    'Upstreams: https://one.example is asked, https://two.example DOES NOT ANSWER.',
    'Catalog: http://three.example DOES NOT ANSWER.',
    'View a: 1,234 paths answered without the network.',
    'View b: EXPIRED, and not used.',
    'View c: NOT used or not brought up to date: head-expired.',
  ]) {
    t.ok(lines.includes(line), line);
  }
});

t.test('what is shared is said, with whom, and why not', async (t) => {
  t.ok(summary({}).includes('Nothing is shared.'));
  const traffic = { uploadedBytes: mib, downloadedBytes: 2 * mib, ratio: 0.5 };
  const shared = (share: SummaryOf['share']) => summary({ share, traffic }).find((line) => /har/.test(line));
  t.equal(
    shared({ mode: 'lan', paused: false, connections: 1 }),
    'Shared with the local network: 1 peer connected, 1.0 MiB given to peers and 2.0 MiB taken in all, a ratio of 0.50.',
  );
  t.match(
    shared({ mode: 'on', paused: 'metered', connections: 0 }),
    /with everybody pauses: the connection is metered/,
  );
});

function leg(more: Partial<StoryLeg>): StoryLeg {
  const nothing = { kind: 'http', why: 'peers-known', fromByte: 0, startedMs: 0, endedMs: 1 } as const;
  return { source: 'swarm', ...nothing, usedBytes: 0, unusedBytes: 0, end: 'finished', ...more };
}

const { fileHash, storeHash, narInfo } = madeNar({ name: 'told', sizeBytes: 10 });

function story(more: Partial<NarStory>): NarStory {
  const base = {
    fileHash,
    storeHash,
    storePath: narInfo.storePath,
    sizeBytes: 10,
    startedMs: 0,
    tookMs: 100,
  };
  return { ...base, outcome: 'fetched', ahead: false, legs: [], ...more };
}

t.test('each source has its bytes, its NARs and the time that it saved', async (t) => {
  const totals = new SourceTotals();
  const http = { source: 'https://one.example', usedBytes: 3, unusedBytes: 2, end: 'beaten' } as const;
  totals.add(story({ httpMs: 400, legs: [leg(http), leg({ usedBytes: 7 })] }));
  totals.add(story({ outcome: 'failed', legs: [leg({ end: 'failed' })] }));
  totals.add(
    story({
      httpMs: 100,
      legs: [leg({ source: 'https://one.example', usedBytes: 1 }), leg({ end: 'absent' })],
    }),
  );
  const swarm = {
    source: 'swarm',
    nars: 1,
    mostOf: 1,
    usedBytes: 7,
    asked: 3,
    failed: 1,
    absent: 1,
    savedMs: 300,
  };
  const upstream = {
    source: 'https://one.example',
    nars: 2,
    mostOf: 1,
    usedBytes: 4,
    unusedBytes: 2,
    beaten: 1,
    savedMs: 0,
  };
  t.match(totals.status(), [swarm, upstream]);
});

t.test('more sources than anybody has are counted together', async (t) => {
  const totals = new SourceTotals();
  for (let number = 0; number < 1_000; number++)
    totals.add(story({ legs: [leg({ source: `https://${number}.example`, usedBytes: 1 })] }));
  t.ok(totals.status().length <= 64);
  t.equal(
    totals.status().reduce((sum, { usedBytes }) => sum + usedBytes, 0),
    1_000,
  );
});
