/** The memory of reads: used again, never much larger than what is read, and bounded while idle. */
import t from 'tap';
import { idleMemoryMaxBytes, ReadMemory } from '../../swarm/seed/read-memory.ts';

t.test('it fits what is read, and is less than twice as much', async (t) => {
  const memory = new ReadMemory();
  t.equal(memory.take(32 * 1024), undefined, 'a small read has memory of its own');
  for (const bytes of [32 * 1024 + 1, 65_536, 65_537, 1_000_000, 1_048_576]) {
    const { length = 0 } = memory.take(bytes) ?? {};
    t.ok(length >= bytes && length < 2 * bytes, `${length} for ${bytes}`);
  }
});

t.test('what is given back is used again, by one at a time', async (t) => {
  const memory = new ReadMemory();
  const first = memory.take(100_000) ?? Buffer.alloc(0);
  memory.give(first);
  t.equal(memory.take(120_000), first);
  t.not(memory.take(120_000), first);
});

t.test('no more is kept than the bound', async (t) => {
  const memory = new ReadMemory();
  const taken = Array.from({ length: 20 }, () => memory.take(1_048_576) ?? Buffer.alloc(0));
  for (const one of taken) memory.give(one);
  t.equal(memory.idleBytes, idleMemoryMaxBytes);
});

t.test('what nobody needs for a while is let go', async (t) => {
  const memory = new ReadMemory();
  const taken = memory.take(100_000);
  if (taken !== undefined) memory.give(taken);
  memory.sweep();
  t.ok(memory.idleBytes > 0, 'it was needed since');
  memory.sweep();
  t.equal(memory.idleBytes, 0);
});
