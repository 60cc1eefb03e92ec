/** When a swarm counts as stalled. */
import t from 'tap';
import { FetchProgress } from '../../swarm/fetch/fetch-progress.ts';

const limits = { slowMs: 2_000, leastBytesPerSecond: 1_000 };

t.test('silence: after stallMs, not before, and any sign begins it anew', async (t) => {
  const progress = new FetchProgress(500, limits, 0);
  t.equal(progress.stalled(500), undefined);
  t.match(progress.stalled(501), /500 ms/);
  progress.heard(400);
  t.equal(progress.stalled(900), undefined);
  t.ok(progress.stalled(901));
});

t.test('signs of life without bytes do not do for ever, wrong bytes count for nothing', async (t) => {
  const progress = new FetchProgress(500, limits, 0);
  progress.useful(5_000);
  progress.useful(-5_000);
  progress.useful(1_999);
  progress.heard(1_999);
  t.equal(progress.stalled(1_999), undefined);
  t.match(progress.stalled(2_000), /1999 bytes in 2000 ms/);
});

t.test('enough bytes open the next window', async (t) => {
  const progress = new FetchProgress(500, limits, 0);
  progress.useful(2_000);
  progress.heard(2_000);
  t.equal(progress.stalled(2_000), undefined);
  progress.heard(3_900);
  t.equal(progress.stalled(3_999), undefined);
  t.ok(progress.stalled(4_000));
});

t.test('time in which nothing was waited for does not count', async (t) => {
  const progress = new FetchProgress(500, limits, 0);
  progress.waits(10_000);
  t.equal(progress.stalled(10_500), undefined);
});

t.test('who grants a long silence gets it', async (t) => {
  const progress = new FetchProgress(10_000, limits, 0);
  t.equal(progress.stalled(9_999), undefined);
  t.ok(progress.stalled(10_001));
});
