import t from 'tap';
import type { WhyPath, WhyStory } from '../../cli/why-answer.ts';
import { whyText } from '../../cli/why-text.ts';

const storePath = '/nix/store/0123456789abcdfghijklmnpqrsvwxyz-hello-2.12';
const startedMs = Date.UTC(2026, 10, 26, 3, 0, 0);
const nowMs = startedMs + 60_000;

const raced: WhyStory = {
  sizeBytes: 3 * 1024 * 1024,
  startedMs,
  tookMs: 500,
  outcome: 'fetched',
  ahead: false,
  httpMs: 1_500,
  legs: [
    {
      source: 'https://cache.nixos.org',
      why: 'peers-unknown',
      fromByte: 0,
      startedMs: 0,
      firstByteMs: 40,
      endedMs: 400,
      usedBytes: 1024 * 1024,
      unusedBytes: 65_536,
      end: 'beaten',
    },
    {
      source: 'swarm',
      why: 'peers-found',
      fromByte: 1024 * 1024,
      startedMs: 60,
      firstByteMs: 90,
      endedMs: 500,
      usedBytes: 2 * 1024 * 1024,
      unusedBytes: 0,
      end: 'finished',
      peers: ['192.168.7.2:6882'],
    },
  ],
};

function path(more: Partial<WhyPath>): WhyPath {
  return { storeHash: storePath.slice(11, 43), storePath, viewed: false, held: false, stories: [], ...more };
}

const text = (more: Partial<WhyPath>): string =>
  whyText({ paths: [path(more)], more: false }, 'hello', nowMs);

t.test('a race is told: who won, why each was asked, what was saved', async (t) => {
  const told = text({
    stories: [raced],
    held: true,
    sizeBytes: 3 * 1024 * 1024,
    narInfoFrom: 'https://cache.nixos.org',
    narInfoMs: startedMs,
  });
  t.equal(
    told,
    `${storePath}
Fetched 59.5 s ago (2026-11-26 03:00:00 UTC) from https://cache.nixos.org and the swarm: 3 MiB in 500 ms, 6 MiB/s.
HTTP alone would have taken about 1.5 s: 1 s were saved.
What was tried, in this order:
  https://cache.nixos.org, asked at once. No torrent or no peers were known when it was asked for, so HTTP did not wait for them.
    first byte after 40 ms, 1 MiB used and 64 KiB that others had given; ended after 400 ms: another source was faster
  the swarm, asked after 60 ms, from byte 1,048,576 on. Its torrent and peers became known while HTTP gave it.
    first byte after 90 ms, 2 MiB used; ended after 500 ms: it gave the last byte
    from 192.168.7.2:6882
Its narinfo is that of https://cache.nixos.org, 2026-11-26 03:00:00 UTC.
Its NAR file (3 MiB) is held since 2026-11-26 03:00:00 UTC: Nix gets it from here.
`,
  );
});

t.test('time that was lost is said to be lost', async (t) => {
  t.match(text({ stories: [{ ...raced, httpMs: 200 }] }), /about 200 ms: 300 ms were lost\./);
  const [http] = raced.legs;
  t.match(text({ stories: [{ ...raced, legs: http ? [http] : [] }] }), /All of it came over HTTP\./);
});

t.test('what failed, and why, is told', async (t) => {
  const [http] = raced.legs;
  const failed = {
    ...raced,
    outcome: 'failed',
    legs: http ? [{ ...http, end: 'failed', error: 'upstream-failed: \u001b[2J' }] : [],
  };
  const told = text({ stories: [failed, raced] });
  t.match(told, /NOT fetched 59\.5 s ago/);
  t.match(told, /it failed: upstream-failed: \?\[2J/, 'without control characters');
  t.match(told, /Before that:\n {2}Fetched 59\.5 s ago/);
});

t.test('what was never asked for, only looked at, kept from before or taken back is told', async (t) => {
  t.match(text({}), /Nix has not asked this client for it/);
  t.match(text({ narInfoFrom: 'http://one.example' }), /Nix asked for its narinfo, and not for the NAR file/);
  t.match(text({ held: true }), /kept here; how it came is forgotten/);
  t.match(text({ viewed: true }), /in a view of a catalog/);
  t.match(
    text({ revoked: { reason: 'wrong bytes', timeMs: startedMs } }),
    /REVOKED 2026-11-26 03:00:00 UTC: wrong bytes\./,
  );
  t.equal(
    whyText({ paths: [], more: false }, 'nosuch', nowMs),
    'Nothing was fetched lately that is named nosuch.\n',
  );
  t.match(whyText({ paths: [path({})], more: true }, 'hello', nowMs), /There are more of that name/);
});

t.test('a reason of a newer client is shown as it is', async (t) => {
  const [http] = raced.legs;
  t.match(
    text({ stories: [{ ...raced, legs: http ? [{ ...http, why: 'moon-phase' }] : [] }] }),
    /at once\. moon-phase/,
  );
});
