import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import type { VerifyJob } from '../../parts/verify.ts';
import { VerifyPool } from '../../seeder/verify-pool.ts';
import { compressNar, makeNar, sha256 } from '../helpers/cache-builder.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';

const dir = await mkdtemp(join(tmpdir(), 'narswarm-pool-'));
t.teardown(() => rm(dir, { recursive: true }));
const workerUrl = new URL('./crashing-worker.ts', import.meta.url);
const job = (name: string, narSize = 1000): VerifyJob => ({
  path: join(dir, name),
  compression: 'none',
  narHash: sha256(Buffer.from(name)),
  narSize,
});

async function realJob(name: string, size: number): Promise<VerifyJob> {
  const nar = makeNar({ [name]: Buffer.alloc(size, name) });
  const narFile = compressNar(nar, 'xz');
  await writeFile(join(dir, name), narFile);
  return {
    path: join(dir, name),
    compression: 'xz',
    fileHash: sha256(narFile),
    fileSize: narFile.length,
    narHash: sha256(nar),
    narSize: nar.length,
  };
}

t.test('a worker that dies fails the job it died over, and only that', async (t) => {
  provesNothingStaysOpen(t);
  const pool = new VerifyPool({ workers: 1, workerUrl });
  for (const death of ['dies', 'throws']) {
    const names = ['a', 'b', death, 'c', 'd'];
    const ends = await Promise.allSettled(names.map((name) => pool.verify(job(name))));
    t.same(
      ends.map((end) => (end.status === 'rejected' ? end.reason.code : end.status)),
      ['nar-corrupt', 'nar-corrupt', 'verify-crashed', 'nar-corrupt', 'nar-corrupt'],
      death,
    );
  }
  await t.rejects(pool.verify(job('e')), { code: 'nar-corrupt', message: 'e', offset: 7 });
  await pool.close();
  await pool.close();
  await t.rejects(pool.verify(job('f')), { code: 'aborted' });
});

t.test('workers that rest are gone, those at work are not, and the next job opens one again', async (t) => {
  provesNothingStaysOpen(t);
  const pool = new VerifyPool({ workers: 2 });
  const small = await realJob('small', 1000);
  await Promise.all([pool.verify(small), pool.verify(small)]);
  t.equal(pool.workers, 2);
  const atWork = pool.verify(small);
  await setImmediate();
  await pool.rest();
  t.equal(pool.workers, 1);
  t.equal((await atWork).fileSize, small.fileSize);
  await pool.rest();
  t.equal(pool.workers, 0);
  t.equal((await pool.verify(small)).fileSize, small.fileSize);
  await pool.close();
});

t.test('closing gives up what is queued and what is running', async (t) => {
  provesNothingStaysOpen(t);
  const pool = new VerifyPool({ workers: 1 });
  const large = await realJob('large', 30_000_000);
  const jobs = [large, large, large].map((each) => pool.verify(each));
  const ends = Promise.allSettled(jobs);
  await pool.close();
  t.same(
    (await ends).map((end) => (end.status === 'rejected' ? end.reason.code : end.status)),
    ['aborted', 'aborted', 'aborted'],
  );
});

t.test('a signal gives up one job, queued or running', async (t) => {
  provesNothingStaysOpen(t);
  const pool = new VerifyPool({ workers: 1 });
  const large = await realJob('large2', 30_000_000);
  const [first, second] = [new AbortController(), new AbortController()];
  const running = pool.verify(large, first.signal);
  const queued = pool.verify(large, second.signal);
  const kept = pool.verify(large);
  second.abort();
  await t.rejects(queued, { code: 'aborted' });
  first.abort();
  await t.rejects(running, { code: 'aborted' });
  t.equal((await kept).fileSize, large.fileSize);
  await pool.close();
});

t.test('the event loop does not wait while large files are verified', async (t) => {
  provesNothingStaysOpen(t);
  const pool = new VerifyPool({ workers: 2 });
  const jobs = await Promise.all(['x', 'y', 'z'].map((name) => realJob(name, 60_000_000)));
  await pool.verify(await realJob('first', 1000));
  const delay = monitorEventLoopDelay({ resolution: 2 });
  delay.enable();
  await Promise.all(jobs.map((each) => pool.verify(each)));
  delay.disable();
  t.comment(`p99 ${delay.percentile(99) / 1e6} ms, max ${delay.max / 1e6} ms`);
  // A stall for one of these files would be hundreds of milliseconds; a busy machine may add some tens.
  t.ok(delay.percentile(99) / 1e6 < 100);
  await pool.close();
});
