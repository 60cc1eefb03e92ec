/** Memory that is used again. */
import t from 'tap';
import { PieceMemory } from '../../swarm/fetch/piece-memory.ts';

t.test('what was given back is taken again, once, by who wants as much', async (t) => {
  for (const shared of [true, false]) {
    const memory = new PieceMemory({ shared });
    const first = memory.take(1_000);
    t.equal(first.buffer instanceof SharedArrayBuffer, shared);
    memory.giveBack(first);
    memory.giveBack(first);
    t.not(memory.take(999).buffer, first.buffer);
    t.equal(memory.take(1_000).buffer, first.buffer);
    t.not(memory.take(1_000).buffer, first.buffer);
  }
});

t.test('what is not from there, or a part, is not taken in', async (t) => {
  const memory = new PieceMemory({ shared: true });
  const taken = memory.take(1_000);
  const foreign = Buffer.from(new SharedArrayBuffer(1_000));
  for (const bytes of [foreign, taken.subarray(1), taken.subarray(0, 999)]) memory.giveBack(bytes);
  const next = memory.take(1_000);
  t.not(next.buffer, foreign.buffer);
  t.not(next.buffer, taken.buffer);
});

t.test('no more is kept than allowed', async (t) => {
  const memory = new PieceMemory({ shared: false });
  const taken = Array.from({ length: 40 }, () => memory.take(1024 * 1024));
  for (const bytes of taken) memory.giveBack(bytes);
  const before = new Set(taken.map(({ buffer }) => buffer));
  const again = taken.map(() => memory.take(1024 * 1024)).filter(({ buffer }) => before.has(buffer));
  t.equal(again.length, 16);
});
