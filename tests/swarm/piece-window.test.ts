/** The decisions of the fetcher, without sockets: what is asked of whom, what is taken, who is blamed. */
import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import { type CheckResult, PieceWindow } from '../../swarm/fetch/piece-window.ts';
import { pieceSize } from '../../swarm/torrent/torrent.ts';
import { blockBytes } from '../../swarm/wire/limits.ts';
import type { BlockRequest } from '../../swarm/wire/wire-encode.ts';
import { spoilt } from '../helpers/test-peer.ts';
import { fileOf, pieceBytes } from './fetch-fixture.ts';

const file = fileOf(3 * pieceBytes + blockBytes + 100);
const everything = (): boolean => true;
const all = 100;

function rightBytes({ index, begin, lengthBytes }: BlockRequest): Buffer {
  const at = index * pieceBytes + begin;
  return file.bytes.subarray(at, at + lengthBytes);
}

/** A peer sends a whole block. */
function give(
  window: PieceWindow,
  peer: string,
  block: BlockRequest,
  bytes = rightBytes(block),
): CheckResult | undefined {
  window.begin(peer, block);
  window.write(peer, block, bytes.subarray(0, 10), 0);
  window.write(peer, block, bytes.subarray(10), 10);
  const piece = window.filled(peer, block);
  return piece && window.checked(block.index, hash('sha1', piece, 'buffer'));
}

function take(window: PieceWindow, peer: string, max = all): BlockRequest[] {
  return window.take(peer, everything, max, { dueMs: 0 });
}

/** Everything that can be delivered. */
function delivered(window: PieceWindow): Buffer {
  const parts: Buffer[] = [];
  for (let piece = window.deliver(); piece !== undefined; piece = window.deliver()) parts.push(piece.bytes);
  return Buffer.concat(parts);
}

t.test(
  'blocks are asked for in the order of delivery, each once, the last one at its true size',
  async (t) => {
    const window = new PieceWindow(file.torrent, { first: 0, end: 4 }, 100 * pieceBytes);
    const first = take(window, 'a', 3);
    const rest = take(window, 'b');
    const begins = [...first, ...rest].map(({ index, begin }) => index * pieceBytes + begin);
    t.same(
      begins,
      Array.from({ length: 14 }, (_, block) => block * blockBytes),
    );
    t.equal(rest.at(-1)?.lengthBytes, 100);
    t.same(take(window, 'a'), []);
  },
);

t.test(
  'spread over the room, the next piece comes first, then the others from another place on',
  async (t) => {
    const piecesOf = (spread: number, max: number): number[] => {
      const window = new PieceWindow(file.torrent, { first: 0, end: 4 }, 100 * pieceBytes);
      const blocks = window.take('a', everything, max, { dueMs: 0, spread });
      return [...new Set(blocks.map(({ index }) => index))];
    };
    t.same(piecesOf(0, all), [0, 1, 2, 3]);
    t.same(piecesOf(0.5, all), [0, 2, 3, 1]);
    t.same(piecesOf(0.99, 5), [0, 3], 'whoever takes little takes what others do not');
  },
);

t.test('no more pieces are held than there is room for, but always two', async (t) => {
  for (const [ahead, pieces] of [
    [0, 2],
    [3 * pieceBytes, 3],
  ] as const) {
    const window = new PieceWindow(file.torrent, { first: 0, end: 4 }, ahead);
    for (const block of take(window, 'a')) give(window, 'a', block);
    t.equal(window.heldBytes, pieces * pieceBytes);
    t.same(take(window, 'a'), [], 'nothing is asked for that has no room');
    t.equal(window.deliver()?.index, 0);
    t.ok(take(window, 'a').length > 0, 'what is taken makes room');
  }
});

t.test('a whole piece waits for those before it', async (t) => {
  const window = new PieceWindow(file.torrent, { first: 0, end: 4 }, 100 * pieceBytes);
  const blocks = take(window, 'a');
  for (const block of blocks.filter(({ index }) => index > 0)) give(window, 'a', block);
  t.equal(window.deliver(), undefined);
  for (const block of blocks.filter(({ index }) => index === 0)) give(window, 'a', block);
  t.ok(delivered(window).equals(file.bytes));
  t.ok(window.done);
});

t.test(
  'blocks that are overdue, or that another peer gives much sooner, are asked of that one, too',
  async (t) => {
    const window = new PieceWindow(file.torrent, { first: 3, end: 4 }, 100 * pieceBytes);
    const overtake = (peer: string, nowMs: number, tookMs: number): number =>
      window.overtake(peer, everything, all, { nowMs, dueMs: nowMs + tookMs }).length;
    t.equal(window.take('a', everything, all, { dueMs: 200 }).length, 2);
    t.equal(overtake('b', 50, 60), 0, 'it would come little later');
    t.equal(overtake('a', 201, 10), 0, 'not of the one who lets us wait');
    t.equal(overtake('b', 50, 20), 2, 'in a fraction of the time');
    t.equal(overtake('c', 60, 10), 0, 'not of a third at once');
    t.equal(overtake('c', 101, 10), 2, 'but when the second is late as well');
    t.equal(overtake('d', 200, 10), 2);
    t.equal(overtake('e', 400, 10), 0, 'and not for ever');
  },
);

t.test('of the next piece alone, only what is overdue', async (t) => {
  const window = new PieceWindow(file.torrent, { first: 0, end: 4 }, 100 * pieceBytes);
  window.take('a', everything, 6, { dueMs: 100 });
  const overtake = (nowMs: number): BlockRequest[] =>
    window.overtake('b', everything, all, { nowMs, dueMs: nowMs + 1, firstOnly: true });
  t.same(overtake(50), []);
  t.equal(overtake(101).length, 4);
});

t.test('a slow peer leaves to the others what they will have got before it gives anything', async (t) => {
  const window = new PieceWindow(file.torrent, { first: 0, end: 4 }, 100 * pieceBytes);
  const slow = (skipBytes: number): number | undefined =>
    window.take('slow', everything, 1, { dueMs: 0, skipBytes })[0]?.index;
  t.equal(slow(2 * pieceBytes), 2);
  t.equal(slow(pieceBytes - 1), 0);
  t.equal(slow(4 * pieceBytes), undefined, 'they will have got everything');
});

t.test('room that grows is used, and what is held when it shrinks stays', async (t) => {
  const window = new PieceWindow(file.torrent, { first: 0, end: 4 }, 2 * pieceBytes);
  t.equal(take(window, 'a').length, 8);
  window.makeRoom(3 * pieceBytes);
  const more = take(window, 'a');
  t.equal(more.length, 4);
  window.makeRoom(0);
  for (const block of more) give(window, 'a', block);
  t.same(take(window, 'a'), []);
  t.ok(window.heldBytes >= 3 * pieceBytes);
});

t.test('of two peers that send the same block at once, the first that is done wins', async (t) => {
  const window = new PieceWindow(file.torrent, { first: 3, end: 4 }, 100 * pieceBytes);
  const [first, second] = take(window, 'slow');
  if (first === undefined || second === undefined) return t.fail('two blocks');
  window.begin('slow', first);
  window.write('slow', first, spoilt(rightBytes(first)).subarray(0, 5), 0);
  give(window, 'quick', first);
  t.notOk(window.write('slow', first, spoilt(rightBytes(first)), 0), 'what comes later is of no use');
  t.equal(window.filled('slow', first), undefined);
  t.same(give(window, 'quick', second), { kind: 'verified', liars: [] });
  t.same(window.deliver()?.peers, ['quick']);
});

t.test('who alone gave a spoilt piece is the liar', async (t) => {
  const window = new PieceWindow(file.torrent, { first: 3, end: 4 }, 100 * pieceBytes);
  const [first, second] = take(window, 'a');
  if (first === undefined || second === undefined) return t.fail('two blocks');
  give(window, 'a', first, spoilt(rightBytes(first)));
  t.same(give(window, 'a', second), { kind: 'spoilt', liars: ['a'], bytes: blockBytes + 100 });
});

t.test(
  'of several, the one whose block differs from the good one; till then one peer gives the piece',
  async (t) => {
    const window = new PieceWindow(file.torrent, { first: 3, end: 4 }, 100 * pieceBytes);
    const [first, second] = take(window, 'a');
    if (first === undefined || second === undefined) return t.fail('two blocks');
    give(window, 'a', first);
    t.same(give(window, 'b', second, spoilt(rightBytes(second))), {
      kind: 'spoilt',
      liars: [],
      bytes: blockBytes + 100,
    });
    t.equal(take(window, 'a', 1).length, 1);
    t.same(take(window, 'b'), [], 'the piece is one peer’s');
    give(window, 'b', first, spoilt(rightBytes(first)));
    t.same(take(window, 'a').length, 1);
    give(window, 'a', first);
    t.same(give(window, 'a', second), { kind: 'verified', liars: ['b'] });
  },
);

t.test('what a liar gave to other pieces is wanted anew', async (t) => {
  const window = new PieceWindow(file.torrent, { first: 3, end: 4 }, 100 * pieceBytes);
  const [first, second] = take(window, 'liar');
  if (first === undefined || second === undefined) return t.fail('two blocks');
  give(window, 'liar', first, spoilt(rightBytes(first)));
  window.distrust('liar');
  window.giveBack('liar', [second]);
  window.left('liar');
  for (const block of take(window, 'a')) give(window, 'a', block);
  t.same(window.deliver()?.peers, ['a']);
});

t.test('a peer that leaves midway through a block keeps neither the block nor memory', async (t) => {
  const window = new PieceWindow(file.torrent, { first: 3, end: 4 }, 100 * pieceBytes);
  const [first, second] = take(window, 'a');
  if (first === undefined || second === undefined) return t.fail('two blocks');
  const heldBytes = window.heldBytes;
  for (const peer of ['a', 'b']) {
    window.begin(peer, first);
    window.write(peer, first, spoilt(rightBytes(first)), 0);
  }
  t.equal(window.heldBytes, heldBytes + blockBytes, 'the second one writes beside the first');
  window.giveBack('a', [first, second]);
  window.left('a');
  window.left('b');
  t.equal(window.heldBytes, heldBytes);
  for (const block of take(window, 'c')) give(window, 'c', block);
  t.same(window.deliver()?.peers, ['c']);
});

t.test(
  'a piece that one peer has to give alone is free when that peer leaves between two requests',
  async (t) => {
    const window = new PieceWindow(file.torrent, { first: 3, end: 4 }, 100 * pieceBytes);
    const [first, second] = take(window, 'a');
    if (first === undefined || second === undefined) return t.fail('two blocks');
    give(window, 'a', first);
    give(window, 'b', second, spoilt(rightBytes(second)));
    for (const block of take(window, 'b', 1)) give(window, 'b', block);
    t.same(take(window, 'a'), []);
    window.left('b');
    t.equal(take(window, 'a').length, 2, 'all of it');
  },
);

type Step =
  | { do: 'take'; peer: string; max: number; late: boolean; together: number }
  | {
      do: 'begin' | 'write' | 'filled' | 'spoil' | 'giveBack';
      peer: string;
      block: number;
      together: number;
    }
  | { do: 'left' | 'distrust'; peer: string; block?: never }
  | { do: 'deliver' }
  | { do: 'check' };

/** With the blocks after it in its piece. */
function withNext({ index, begin }: BlockRequest, together: number): BlockRequest {
  const size = pieceSize(file.torrent, index);
  return { index, begin, lengthBytes: Math.min(together * blockBytes, size - begin) };
}

const peer = fc.constantFrom('a', 'b', 'c');
const block = fc.nat(20);
const together = fc.integer({ min: 1, max: 3 });
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    do: fc.constant('take' as const),
    peer,
    max: fc.integer({ min: 1, max: 6 }),
    late: fc.boolean(),
    together,
  }),
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constantFrom('begin', 'write', 'filled', 'spoil', 'giveBack'),
      peer,
      block,
      together,
    }),
  },
  fc.record({ do: fc.constantFrom('left', 'distrust'), peer }),
  fc.constantFrom<Step>({ do: 'deliver' }, { do: 'check' }),
);

t.test(
  'whatever peers do in whatever order, the bytes are right once honest peers answer, and nobody honest is blamed',
  async () => {
    const blocks = take(new PieceWindow(file.torrent, { first: 0, end: 4 }, 100 * pieceBytes), 'x');
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const window = new PieceWindow(file.torrent, { first: 0, end: 4 }, 2 * pieceBytes);
        const parts: Buffer[] = [];
        const lied = new Set<string>();
        const blamed = new Set<string>();
        const due: { index: number; bytes: Buffer; copy: Buffer }[] = [];
        const check = (): void => {
          const piece = due.shift();
          if (piece === undefined) return;
          // Nobody wrote to it meanwhile.
          assert.ok(piece.bytes.equals(piece.copy));
          const { liars } = window.checked(piece.index, hash('sha1', piece.bytes, 'buffer'));
          for (const liar of liars) blamed.add(liar);
        };
        const give = (peer: string, request: BlockRequest, bytes = rightBytes(request)): void => {
          // The wire gives the end of a block after all of its bytes.
          window.begin(peer, request);
          window.write(peer, request, bytes, 0);
          const piece = window.filled(peer, request);
          if (piece !== undefined) due.push({ index: request.index, bytes: piece, copy: Buffer.from(piece) });
        };
        let nowMs = 0;
        for (const step of steps) {
          nowMs++;
          if (step.do === 'deliver') {
            const piece = window.deliver();
            if (piece !== undefined) parts.push(piece.bytes);
          } else if (step.do === 'check') {
            check();
          } else if (step.do === 'take') {
            if (step.late) window.overtake(step.peer, everything, step.max, { nowMs, dueMs: nowMs + 3 });
            else
              window.take(step.peer, everything, step.max, {
                dueMs: nowMs + 3,
                togetherMax: step.together,
              });
          } else if (step.block === undefined) {
            window[step.do](step.peer);
          } else {
            const one = blocks[step.block % blocks.length];
            if (one === undefined) continue;
            const request = withNext(one, step.together);
            if (step.do === 'begin') window.begin(step.peer, request);
            else if (step.do === 'write') window.write(step.peer, request, rightBytes(request), 0);
            else if (step.do === 'giveBack') window.giveBack(step.peer, [request]);
            else if (step.do === 'filled') give(step.peer, request);
            else {
              lied.add(step.peer);
              give(step.peer, request, spoilt(rightBytes(request)));
            }
          }
        }
        for (const liar of ['a', 'b', 'c']) {
          window.giveBack(liar, blocks);
          window.distrust(liar);
          window.left(liar);
        }
        while (due.length > 0) check();
        // Several honest peers, which may fail over what the others have left behind, but not for ever.
        for (let round = 0; round < 20 && !window.done; round++) {
          for (let piece = window.deliver(); piece !== undefined; piece = window.deliver())
            parts.push(piece.bytes);
          for (const one of ['h', 'i']) for (const request of take(window, one, 5)) give(one, request);
          while (due.length > 0) check();
        }
        return (
          window.done &&
          Buffer.concat(parts).equals(file.bytes) &&
          [...blamed].every((liar) => lied.has(liar))
        );
      }),
      { numRuns: 2_000 },
    );
  },
);

t.test(
  'blocks that follow each other are asked for as one, as far as they are wanted and within a piece',
  async (t) => {
    const window = new PieceWindow(file.torrent, { first: 0, end: 4 }, 100 * pieceBytes);
    const [second] = window.take('a', (index) => index === 1, 2, { dueMs: 0 }).slice(1);
    window.giveBack('a', [{ index: 1, begin: 0, lengthBytes: blockBytes }]);
    const asked = window.take('b', everything, 7, { dueMs: 0, togetherMax: 3 });
    const inPiece = pieceBytes / blockBytes;
    t.equal(second?.begin, blockBytes);
    t.same(
      asked.map(({ index, begin, lengthBytes }) => [index, begin / blockBytes, lengthBytes / blockBytes]),
      [
        [0, 0, 3],
        [0, 3, inPiece - 3],
        [1, 0, 1],
        [1, 2, 2],
      ],
    );
  },
);

t.test(
  'of blocks asked for as one, those that come from another one first stay, and the others are taken',
  async (t) => {
    const window = new PieceWindow(file.torrent, { first: 0, end: 4 }, 100 * pieceBytes);
    const [both] = window.take('slow', everything, 4, { dueMs: 0, togetherMax: 4 });
    t.equal(both?.lengthBytes, 4 * blockBytes);
    if (both === undefined) return;
    const one = { index: 0, begin: blockBytes, lengthBytes: blockBytes };
    const other = { index: 0, begin: 2 * blockBytes, lengthBytes: blockBytes };
    // One is being sent by the other peer when it begins, and one is there before it ends.
    window.begin('quick', other);
    window.begin('slow', both);
    t.ok(window.write('slow', both, rightBytes(both).subarray(0, blockBytes), 0));
    give(window, 'quick', one);
    t.notOk(window.write('slow', both, spoilt(rightBytes(one)), blockBytes), 'it is there already');
    t.ok(window.write('slow', both, rightBytes(both).subarray(2 * blockBytes), 2 * blockBytes));
    const piece = window.filled('slow', both);
    t.ok(piece?.equals(file.bytes.subarray(0, pieceBytes)));
    t.equal(window.usedBytes, pieceBytes);
  },
);

t.test('a block that a liar had given is not taken from what came beside it', async (t) => {
  const window = new PieceWindow(file.torrent, { first: 0, end: 4 }, 100 * pieceBytes);
  const first = { index: 0, begin: 0, lengthBytes: blockBytes };
  const both = { index: 0, begin: 0, lengthBytes: 2 * blockBytes };
  window.take('liar', everything, 1, { dueMs: 0 });
  give(window, 'liar', first, spoilt(rightBytes(first)));
  window.begin('other', { ...first, begin: blockBytes });
  // The first is not wanted when they begin, and the second goes beside its place.
  window.begin('a', both);
  window.distrust('liar');
  window.write('a', both, rightBytes(both), 0);
  window.filled('a', both);
  t.equal(window.usedBytes, 2 * blockBytes, 'the second, and the one that was wrong');
  t.equal(take(window, 'b')[0]?.begin, 0, 'the first is still wanted');
});

t.test('the memory of a piece that was given back is used again, for whole pieces only', async () => {
  const window = new PieceWindow(file.torrent, { first: 0, end: 4 }, 2 * pieceBytes);
  for (const block of take(window, 'a')) give(window, 'a', block);
  const first = window.deliver();
  t.ok(first);
  window.recycle(Buffer.alloc(5));
  window.recycle(first?.bytes ?? Buffer.alloc(0));
  for (const block of take(window, 'a')) give(window, 'a', block);
  window.deliver();
  t.equal(window.deliver()?.bytes.buffer, first?.bytes.buffer);
});

t.test('a block that was on its way when its piece was wanted anew is asked for again', async (t) => {
  const window = new PieceWindow(file.torrent, { first: 0, end: 2 }, 2 * pieceBytes);
  const [first, ...others] = take(window, 'a', 4);
  assert.ok(first);
  for (const block of others) give(window, 'a', block);
  // Both send the first one; the liar is done before.
  window.begin('a', first);
  window.write('a', first, rightBytes(first).subarray(0, 10), 0);
  const result = give(window, 'liar', first, spoilt(rightBytes(first)));
  t.equal(result?.kind, 'spoilt');
  const again = take(window, 'a', 4);
  t.equal(again.length, 4);
  window.write('a', first, rightBytes(first).subarray(10), 10);
  window.filled('a', first);
  // What was on its way was not asked for a second time, and was all that comes of it.
  for (const block of again.slice(1)) give(window, 'a', block);
  const [left] = take(window, 'a', 1);
  t.same(left, first);
});
