/** The thread that hashes. */
import { execFile } from 'node:child_process';
import { createHash, hash, randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { TorrentFetch } from '../../swarm/fetch/fetcher.ts';
import { HashThread, sha1Aside } from '../../swarm/fetch/hash-thread.ts';
import { PieceMemory } from '../../swarm/fetch/piece-memory.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';
import { TestPeer } from '../helpers/test-peer.ts';
import { collect, fileOf } from './fetch-fixture.ts';

const run = promisify(execFile);

t.beforeEach((t) => provesNothingStaysOpen(t));

async function started(t: Test): Promise<HashThread> {
  const thread = new HashThread();
  t.teardown(() => thread.close());
  while (!thread.ready) await sleep(5);
  return thread;
}

function shared(bytes: Buffer): Buffer {
  const memory = new PieceMemory({ shared: true }).take(bytes.length);
  bytes.copy(memory);
  return memory;
}

t.test('it says the same as here, of memory that is shared and of memory that is not', async (t) => {
  const thread = await started(t);
  const bytes = randomBytes(300_000);
  for (const memory of [bytes, shared(bytes), bytes.subarray(0, bytes.length)]) {
    t.ok((await thread.sha1(memory)).equals(hash('sha1', bytes, 'buffer')));
  }
  const part = shared(bytes).subarray(1_000, 2_000);
  t.ok((await thread.sha1(part)).equals(hash('sha1', bytes.subarray(1_000, 2_000), 'buffer')));
  t.equal(bytes.length, 300_000, 'what was given is still there');
});

t.test('hashes that grow side by side do not mix', async (t) => {
  const thread = await started(t);
  const [a, b, dropped] = [thread.sha256(), thread.sha256(), thread.sha256()];
  const parts = Array.from({ length: 10 }, () => randomBytes(10_000));
  const taken: Promise<void>[] = [];
  for (const [index, part] of parts.entries()) {
    taken.push(a.update(part));
    taken.push((index % 2 === 0 ? b : dropped).update(shared(part)));
  }
  dropped.drop();
  await Promise.all(taken);
  const of = (wanted: Buffer[]): Buffer => createHash('sha256').update(Buffer.concat(wanted)).digest();
  t.ok((await a.digest()).equals(of(parts)));
  t.ok((await b.digest()).equals(of(parts.filter((_part, index) => index % 2 === 0))));
  t.ok((await thread.sha256().digest()).equals(of([])));
});

t.test('what is asked of a thread that is closed fails, and pieces are hashed here then', async (t) => {
  const thread = await started(t);
  const bytes = randomBytes(1_000);
  const running = thread.sha256();
  await running.update(bytes);
  const late = t.rejects(running.digest(), { code: 'aborted' });
  await thread.close();
  await thread.close();
  await late;
  t.notOk(thread.ready);
  t.ok((await sha1Aside(thread, bytes)).equals(hash('sha1', bytes, 'buffer')));
});

t.test(
  'who closes it sees its end, though nothing else keeps the process alive and an answer is on its way',
  async (t) => {
    const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', closesWhileAnswered]);
    t.equal(stdout, 'closed');
  },
);

const closesWhileAnswered = `
  import { HashThread } from ${JSON.stringify(new URL('../../swarm/fetch/hash-thread.ts', import.meta.url).href)};
  const thread = new HashThread();
  while (!thread.ready) await new Promise((resolve) => setTimeout(resolve, 5));
  const digest = thread.sha256().digest().catch(() => undefined);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
  await thread.close();
  await digest;
  process.stdout.write('closed');
`;

t.test(
  'a fetch with it gives the right bytes, from its first piece on, and again after memory was given back',
  async (t) => {
    const thread = new HashThread();
    t.teardown(() => thread.close());
    const file = fileOf(8 * 1024 * 1024);
    const peer = await TestPeer.open(t, file);
    for (const recycles of [false, true]) {
      const fetch = new TorrentFetch({
        torrent: file.torrent,
        hashes: thread,
        limits: { hashAsideBytes: 1 },
      });
      t.teardown(() => fetch.close());
      fetch.addPeers([peer]);
      if (!recycles) {
        t.ok((await collect(fetch)).bytes.equals(file.bytes));
        while (!thread.ready) await sleep(5);
        continue;
      }
      const digest = createHash('sha1');
      for await (const piece of fetch) {
        digest.update(piece.bytes);
        piece.bytes.fill(0);
        fetch.recycle(piece);
      }
      t.ok(digest.digest().equals(hash('sha1', file.bytes, 'buffer')));
    }
  },
);
