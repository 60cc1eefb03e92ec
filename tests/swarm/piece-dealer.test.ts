/** Which pieces a seed suggests to whom. */
import t from 'tap';
import { type DealtPeer, PieceDealer } from '../../swarm/seed/piece-dealer.ts';

const pieceLength = 256 * 1024;
/** As many pieces as a peer is suggested ahead. */
const reach = 48;

class Peer implements DealtPeer {
  readonly pieces = new Set<number>();
  readonly offered: number[] = [];
  readonly said: boolean[] = [];

  has(index: number): boolean {
    return this.pieces.has(index);
  }

  deals(on: boolean): void {
    this.said.push(on);
  }

  offer(indexes: readonly number[]): void {
    this.offered.push(...indexes);
  }
}

class Table {
  nowMs = 0;
  readonly dealer = new PieceDealer(1_000, pieceLength, () => this.nowMs);

  sit(): Peer {
    const peer = new Peer();
    this.dealer.join(peer);
    this.dealer.unchoked(peer);
    return peer;
  }

  got(peer: Peer, index: number): void {
    peer.pieces.add(index);
    this.dealer.had(peer, index);
  }
}

t.test('one that runs ahead is suggested nothing beyond the reach of the one in the middle', async (t) => {
  const table = new Table();
  const [ahead, ...others] = [table.sit(), table.sit(), table.sit()];
  for (let index = 0; index < 40; index++) table.got(ahead, index);
  table.nowMs += 1_000;
  for (let index = 40; index < 60; index++) table.got(ahead, index);
  t.ok(Math.max(...ahead.offered) < reach, `${Math.max(...ahead.offered)}`);
  for (const other of others) for (let index = 0; index < 30; index++) table.got(other, index);
  table.nowMs += 1_000;
  table.dealer.fill();
  t.ok(Math.max(...ahead.offered) > 60, 'it goes on once they have come after');
});

t.test('one peer alone may ask for anything', async (t) => {
  const table = new Table();
  const peer = table.sit();
  t.same(peer.said, []);
  t.same(peer.offered, []);
});

t.test(
  'two peers are suggested different pieces, in order, and are told when one is alone again',
  async (t) => {
    const table = new Table();
    const [first, second] = [table.sit(), table.sit()];
    t.same([first.said, second.said], [[true], [true]]);
    for (let round = 0; round < 100; round++) {
      table.nowMs += 100;
      for (const peer of [first, second]) {
        const next = peer.offered.find((index) => !peer.pieces.has(index));
        if (next === undefined) continue;
        table.got(peer, next);
        // And it gets what the other one has.
        for (const other of [first, second]) if (other !== peer) table.got(other, next);
      }
    }
    const all = [...first.offered, ...second.offered];
    t.equal(new Set(all).size, all.length, 'no piece is suggested twice');
    t.ok(all.length > 150, `${all.length} pieces`);
    t.same(
      [...all].sort((a, b) => a - b),
      [...all.keys()],
      'without gaps',
    );
    table.dealer.leave(second, false);
    t.same(first.said, [true, false]);
  },
);

t.test('nothing beyond what a streaming peer keeps room for is suggested', async (t) => {
  const table = new Table();
  const [first, second] = [table.sit(), table.sit()];
  // Neither gets the first piece.
  for (let round = 0; round < 200; round++) {
    for (const peer of [first, second]) {
      const next = peer.offered.find((index) => index > 1 && !peer.pieces.has(index));
      if (next !== undefined) table.got(peer, next);
    }
  }
  t.ok(Math.max(...first.offered, ...second.offered) < reach);
});

t.test('what one peer asked for before is not suggested to another', async (t) => {
  const table = new Table();
  const first = table.sit();
  for (const index of [0, 1, 2, 3]) table.dealer.asked(first, index);
  const second = table.sit();
  t.same(second.offered, [4, 5]);
});

t.test(
  'what a peer has not fetched is for others when it is choked, leaves, or takes too long',
  async (t) => {
    const table = new Table();
    const [first, second, third] = [table.sit(), table.sit(), table.sit()];
    t.same(
      [first.offered, second.offered, third.offered],
      [
        [0, 1],
        [2, 3],
        [4, 5],
      ],
    );
    table.dealer.choked(first);
    table.got(second, 2);
    t.ok(second.offered.includes(0), 'of one that was choked');
    table.dealer.leave(third, false);
    table.got(second, 3);
    const all = [0, 1, 4, 5, 6];
    t.ok(second.offered.some((index) => index === 4 || index === 1));
    table.nowMs += 11_000;
    const fourth = table.sit();
    t.ok(fourth.offered.every((index) => all.includes(index) || index < reach));
    table.dealer.fill();
    t.ok(fourth.offered.length >= 2);
  },
);

t.test('a quick peer is suggested more at once, a slow one less', async (t) => {
  const table = new Table();
  const [quick, slow] = [table.sit(), table.sit()];
  for (let n = 0; n < 10; n++) {
    table.nowMs += 10;
    const next = quick.offered.find((index) => !quick.has(index));
    if (next !== undefined) table.got(quick, next);
  }
  const waiting = (peer: Peer): number => peer.offered.filter((index) => !peer.has(index)).length;
  t.equal(waiting(quick), 12);
  t.equal(waiting(slow), 2);
});

t.test('after one has everything, nothing is suggested any more', async (t) => {
  const table = new Table();
  const [first, second] = [table.sit(), table.sit()];
  table.dealer.leave(first, true);
  const before = second.offered.length;
  const third = table.sit();
  table.got(second, 2);
  t.equal(second.offered.length, before);
  t.same(third.offered, []);
  t.same(third.said, [true], 'it gets it from the others, or asks in need');
});
