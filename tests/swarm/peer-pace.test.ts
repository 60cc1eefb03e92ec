/** How much a peer is asked for, by a path that is played: no sockets and no clock. */
import t from 'tap';
import { fetchLimits } from '../../swarm/fetch/fetch-limits.ts';
import { type AskedAt, PeerPace } from '../../swarm/fetch/peer-pace.ts';
import { blockBytes } from '../../swarm/wire/limits.ts';

const megabyte = 1_000_000;

interface Path {
  roundTripMs: number;
  bytesPerSecond: number;
}

/** Keeps the window full over a path, as a fetch does, and tells what was outstanding. */
class Play {
  readonly pace: PeerPace;
  readonly #path: Path;
  readonly #underWay: { at: AskedAt; arrivesMs: number }[] = [];
  #sentMs = 0;
  nowMs = 0;
  receivedBlocks = 0;
  most = 0;

  constructor(path: Path, pace = new PeerPace(fetchLimits, fetchLimits.startRequests)) {
    this.pace = pace;
    this.#path = path;
    pace.answeredAfter(path.roundTripMs);
    this.#ask();
  }

  changes(path: Partial<Path>): void {
    Object.assign(this.#path, path);
  }

  run(ms: number): void {
    const endMs = this.nowMs + ms;
    for (let next = this.#underWay[0]; next !== undefined && next.arrivesMs <= endMs; ) {
      this.#underWay.shift();
      this.nowMs = next.arrivesMs;
      this.receivedBlocks++;
      this.pace.got(blockBytes, next.at, this.nowMs, false);
      this.#ask();
      next = this.#underWay[0];
    }
    this.nowMs = endMs;
  }

  #ask(): void {
    const { roundTripMs, bytesPerSecond } = this.#path;
    const at = this.pace.asks(this.nowMs);
    while (this.#underWay.length < this.pace.window) {
      // It is sent when it is asked for and what was asked before is out.
      const leavesMs = Math.max(this.nowMs + roundTripMs / 2, this.#sentMs);
      this.#sentMs = leavesMs + (blockBytes / bytesPerSecond) * 1_000;
      this.#underWay.push({ at, arrivesMs: this.#sentMs + roundTripMs / 2 });
    }
    this.most = Math.max(this.most, this.#underWay.length);
  }
}

function blocksThatFit({ roundTripMs, bytesPerSecond }: Path, moreMs = 0): number {
  return (bytesPerSecond * (roundTripMs + moreMs)) / 1_000 / blockBytes;
}

t.test('the window is what the path holds, and little more', async (t) => {
  for (const roundTripMs of [1, 10, 50, 100]) {
    for (const bytesPerSecond of [megabyte, 10 * megabyte, 100 * megabyte]) {
      const path = { roundTripMs, bytesPerSecond };
      const play = new Play(path);
      play.run(5_000);
      const holds = blocksThatFit(path);
      const { window } = play.pace;
      const about = `${roundTripMs} ms, ${bytesPerSecond / megabyte} MB/s: ${window} blocks, the path holds ${holds.toFixed(1)}`;
      t.ok(window >= Math.min(holds, fetchLimits.maxRequests), about);
      t.ok(window <= 1.3 * blocksThatFit(path, fetchLimits.slackMs) + 3, about);
      const most = Math.max(fetchLimits.startRequests, 2.2 * blocksThatFit(path, fetchLimits.slackMs) + 3);
      t.ok(play.most <= most, `never more than ${play.most}`);
    }
  }
});

t.test('a far and fast path is full within a few round trips', async (t) => {
  const path = { roundTripMs: 50, bytesPerSecond: 100 * megabyte };
  const play = new Play(path);
  play.run(5 * path.roundTripMs);
  const before = play.receivedBlocks;
  play.run(path.roundTripMs);
  const share = (play.receivedBlocks - before) / blocksThatFit(path);
  t.ok(share > 0.95, `${share.toFixed(2)} of what it carries in the sixth`);
});

t.test('a slow peer keeps few blocks, soon', async (t) => {
  const play = new Play({ roundTripMs: 20, bytesPerSecond: 50_000 });
  t.equal(play.pace.window, fetchLimits.startRequests, 'nothing is known at first');
  play.run(700);
  t.ok(play.pace.window <= 4, `${play.pace.window} blocks after its first two`);
});

t.test(
  'a peer that becomes slow keeps few blocks a second later, and is asked for more when it is fast again',
  async (t) => {
    const play = new Play({ roundTripMs: 20, bytesPerSecond: 50 * megabyte });
    play.run(1_000);
    const fast = play.pace.window;
    play.changes({ bytesPerSecond: megabyte });
    play.run(3_500);
    t.ok(play.pace.window <= fast / 10, `${play.pace.window} blocks after ${fast}`);
    play.changes({ bytesPerSecond: 50 * megabyte });
    play.run(5_000);
    t.ok(play.pace.window >= fast / 2, `${play.pace.window} blocks`);
  },
);

t.test('a round trip that grows without more rate makes nothing grow', async (t) => {
  const play = new Play({ roundTripMs: 10, bytesPerSecond: 10 * megabyte });
  play.run(2_000);
  const before = play.pace.window;
  play.changes({ roundTripMs: 60 });
  play.run(5_000);
  t.ok(play.pace.window <= before, `${play.pace.window} blocks after ${before}`);
});

t.test('what is known of a peer is asked for at once, within the limit', async (t) => {
  const start = fetchLimits.startRequests;
  const known = { bytesPerSecond: 100 * megabyte, roundTripMs: 50 };
  t.ok(new PeerPace(fetchLimits, start, known).window > 300);
  const far = { bytesPerSecond: 1_000 * megabyte, roundTripMs: 500 };
  t.equal(new PeerPace(fetchLimits, start, far).window, fetchLimits.maxRequests);
  const slow = { bytesPerSecond: 1_000, roundTripMs: 1 };
  t.equal(new PeerPace(fetchLimits, start, slow).window, start, 'its last day may have been a bad one');
});

t.test('what comes while little is asked says nothing about the path', async (t) => {
  const play = new Play({ roundTripMs: 10, bytesPerSecond: 50 * megabyte });
  play.run(1_000);
  const { window } = play.pace;
  for (let nowMs = 2_000; nowMs < 5_000; nowMs += 100)
    play.pace.got(blockBytes, play.pace.asks(nowMs), nowMs + 20, true);
  t.equal(play.pace.window, window);
});
