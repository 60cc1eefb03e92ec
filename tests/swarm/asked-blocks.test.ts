import t from 'tap';
import { AskedBlocks } from '../../swarm/fetch/asked-blocks.ts';
import { blockBytes } from '../../swarm/wire/limits.ts';

const at = { atMs: 0, receivedBytes: 0 };
const blocks = (first: number, count: number) => ({
  index: 3,
  begin: first * blockBytes,
  lengthBytes: count * blockBytes,
});

t.test('blocks asked for as one count as so many, and end together', async (t) => {
  const asked = new AskedBlocks();
  asked.add(blocks(0, 3), at, false);
  asked.add(blocks(4, 1), at, true);
  t.equal(asked.blocks, 4);
  t.equal(asked.get(blocks(1, 1)), undefined);
  asked.delete(blocks(0, 3));
  asked.delete(blocks(0, 3));
  t.equal(asked.blocks, 1);
  t.same(asked.all(), [blocks(4, 1)]);
});

t.test('what came from elsewhere ends what lies within it, and nothing that reaches further', async (t) => {
  const asked = new AskedBlocks();
  for (const each of [blocks(0, 1), blocks(1, 2), blocks(3, 2), blocks(5, 1)]) asked.add(each, at, false);
  t.same([...asked.within(blocks(0, 4))], [blocks(0, 1), blocks(1, 2)]);
  t.same([...asked.within(blocks(5, 1))], [blocks(5, 1)]);
  t.same([...new AskedBlocks().within(blocks(0, 4))], []);
});

t.test('what is still on its way is not asked for again, and what is beside it is', async (t) => {
  const asked = new AskedBlocks();
  asked.add(blocks(0, 1), at, false);
  asked.add(blocks(2, 1), at, false);
  t.same([...asked.missing([blocks(0, 4), blocks(4, 2)])], [blocks(1, 1), blocks(3, 1), blocks(4, 2)]);
});
