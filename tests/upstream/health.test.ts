import t from 'tap';
import { Health, healthLimits } from '../../upstream/health.ts';

function made() {
  const world = { nowMs: 0, trials: 0, alive: false, changes: [] as string[] };
  const health = new Health({
    clock: () => world.nowMs,
    trial: async () => {
      world.trials++;
      if (world.alive) health.answered();
      else health.failed(1_000);
    },
    onChange: (state) => world.changes.push(state),
  });
  return { health, world };
}

t.test('two silences in a row, and it rests; an answer between them, and it does not', async (t) => {
  const { health, world } = made();
  health.failed(1_000);
  t.notOk(health.resting());
  health.answered();
  health.failed(1_000);
  t.notOk(health.resting());
  health.failed(1_000);
  t.ok(health.resting());
  t.match(health.status(), { state: 'resting', pauseMs: 8_000 });
  health.answered();
  t.notOk(health.resting());
  t.same(world.changes, ['resting', 'asked']);
  await health.close();
});

t.test('what fails at once costs nothing, so that it never rests', async (t) => {
  const { health } = made();
  for (let n = 0; n < 100; n++) health.failed(healthLimits.silenceMinMs - 1);
  t.notOk(health.resting());
  await health.close();
});

t.test('requests that were under way when it went to rest make the pause no longer', async (t) => {
  const { health } = made();
  for (let n = 0; n < 25; n++) health.failed(500);
  t.equal(health.status().pauseMs, 4_000);
  await health.close();
});

t.test('when its pause is over and nobody wanted it, the next request finds out', async (t) => {
  const { health, world } = made();
  health.failed(1_000);
  health.failed(1_000);
  world.nowMs += 8_000;
  t.notOk(health.resting());
  health.failed(1_000);
  t.ok(health.resting(), 'one failure is enough now');
  t.equal(health.status().pauseMs, healthLimits.pauseMaxMs);
  t.same(world.changes, ['resting']);
  t.equal(world.trials, 0);
  await health.close();
});

t.test(
  'while it is wanted it is tried in the background, at ever longer pauses, until it answers',
  async (t) => {
    const pauses: number[] = [];
    // The timers of pauses keep no process.
    const alive = setInterval(() => undefined, 1_000);
    t.teardown(() => clearInterval(alive));
    await new Promise<void>((resolve) => {
      // The clock stands still, so that no pause is over but by its timer.
      const health = new Health({
        clock: () => 0,
        limits: { pauseTimes: 0.05, pauseMaxMs: 15 },
        trial: async () => {
          pauses.push(health.status().pauseMs);
          t.ok(health.resting(), 'also while it is tried');
          if (pauses.length < 5) {
            health.failed(100);
            setImmediate(() => t.ok(health.resting(), 'it is wanted'));
          } else health.answered();
        },
        onChange: (state) => {
          if (state === 'asked') void health.close().then(resolve);
          else setImmediate(() => t.ok(health.resting(), 'it is wanted'));
        },
      });
      health.failed(100);
      health.failed(100);
    });
    t.same(pauses, [5, 10, 15, 15, 15]);
  },
);
