/** Rates, turns and slots over virtual time. */
import t from 'tap';
import { TokenBucket } from '../../swarm/token-bucket.ts';
import { uploadLimits } from '../../swarm/upload/upload-limits.ts';
import { type PacedSender, UploadPacer } from '../../swarm/upload/upload-pacer.ts';
import { chooseSlots, type SlotCandidate, slotsFor } from '../../swarm/upload/upload-slots.ts';

const kib = 1024;
const mib = 1024 * kib;

/** A pacer whose clock moves a tick at a time; peers ask for more as soon as they were given something. */
class Clockwork {
  nowMs = 0;
  readonly pacer = new UploadPacer(uploadLimits, () => this.nowMs);
  readonly peers: HungryPeer[] = [];

  total(bytesPerSecond: number): void {
    this.pacer.setTotal(this.bucket(bytesPerSecond));
  }

  bucket(bytesPerSecond: number): TokenBucket {
    return new TokenBucket(bytesPerSecond, uploadLimits.burstMs, 128 * kib, this.nowMs);
  }

  peer(
    address: string,
    options: Partial<Pick<HungryPeer, 'rarity' | 'bucket' | 'blockBytes'>> = {},
  ): HungryPeer {
    const peer = new HungryPeer(address, options);
    this.peers.push(peer);
    return peer;
  }

  run(seconds: number): void {
    for (const end = this.nowMs + seconds * 1_000; this.nowMs < end; this.nowMs += uploadLimits.tickMs) {
      // Whoever was given something is back for more before time goes on.
      for (let before = -1; before !== this.#given(); ) {
        before = this.#given();
        for (const peer of this.peers) this.pacer.wait(peer);
        this.pacer.run();
      }
    }
  }

  #given(): number {
    return this.peers.reduce((sum, { gotBytes }) => sum + gotBytes, 0);
  }
}

class HungryPeer implements PacedSender {
  readonly address: string;
  readonly rarity: number;
  readonly bucket: TokenBucket | undefined;
  readonly blockBytes: number;
  gotBytes = 0;

  constructor(address: string, options: Partial<Pick<HungryPeer, 'rarity' | 'bucket' | 'blockBytes'>>) {
    this.address = address;
    this.rarity = options.rarity ?? 0;
    this.bucket = options.bucket;
    this.blockBytes = options.blockBytes ?? 16 * kib;
  }

  get nextBytes(): number {
    return this.blockBytes;
  }

  grant(maxBytes: number): number {
    const bytes = Math.max(1, Math.floor(maxBytes / this.blockBytes)) * this.blockBytes;
    this.gotBytes += bytes;
    return bytes;
  }
}

const near = (found: number, expected: number, part = 0.1): boolean =>
  Math.abs(found - expected) <= expected * part;

t.test('a rate for all torrents is kept, low or high', async (t) => {
  for (const rate of [32 * kib, mib, 100 * mib]) {
    const clockwork = new Clockwork();
    clockwork.total(rate);
    const peers = ['a', 'b', 'c'].map((address) => clockwork.peer(address));
    clockwork.run(20);
    const got = peers.reduce((sum, { gotBytes }) => sum + gotBytes, 0);
    t.ok(near(got, 20 * rate, 0.25), `${got} bytes in 20 s at ${rate} bytes/s`);
  }
});

t.test('a hundred connections of one address get no more than one of another', async (t) => {
  const clockwork = new Clockwork();
  clockwork.total(4 * mib);
  const many = Array.from({ length: 100 }, () => clockwork.peer('many'));
  const one = clockwork.peer('one');
  clockwork.run(20);
  const manyBytes = many.reduce((sum, { gotBytes }) => sum + gotBytes, 0);
  t.ok(near(one.gotBytes, manyBytes, 0.05), `${one.gotBytes} and ${manyBytes} bytes`);
  t.ok(
    many.every(({ gotBytes }) => gotBytes > 0),
    'which share theirs',
  );
});

t.test('large blocks get no more than small ones', async (t) => {
  const clockwork = new Clockwork();
  clockwork.total(mib);
  const large = clockwork.peer('large', { blockBytes: 128 * kib });
  const small = clockwork.peer('small');
  clockwork.run(30);
  t.ok(near(large.gotBytes, small.gotBytes, 0.1), `${large.gotBytes} and ${small.gotBytes} bytes`);
});

t.test('the rarest torrent goes first when the total is short, and nobody starves', async (t) => {
  const clockwork = new Clockwork();
  clockwork.total(mib);
  const rare = clockwork.peer('rare', { rarity: 0 });
  const common = [1, 2, 3].map((rarity) => clockwork.peer(`common ${rarity}`, { rarity }));
  clockwork.run(40);
  const others = common.reduce((sum, { gotBytes }) => sum + gotBytes, 0);
  t.ok(near(rare.gotBytes / (rare.gotBytes + others), 7 / 8, 0.05), `${rare.gotBytes} and ${others} bytes`);
  for (const { address, gotBytes } of common) t.ok(gotBytes > 0, `${address}: ${gotBytes} bytes`);
  clockwork.peers.splice(0, 1);
  clockwork.pacer.leave(rare);
  const before = others;
  clockwork.run(10);
  const now = common.reduce((sum, { gotBytes }) => sum + gotBytes, 0);
  t.ok(near(now - before, 10 * mib), 'without the rarest, all of it goes to the others');
});

t.test('a capped torrent keeps its rate, and holds up no other', async (t) => {
  const clockwork = new Clockwork();
  clockwork.total(mib);
  const bucket = clockwork.bucket(64 * kib);
  const capped = ['a', 'b'].map((address) => clockwork.peer(address, { bucket }));
  const free = clockwork.peer('c');
  clockwork.run(30);
  const cappedBytes = capped.reduce((sum, { gotBytes }) => sum + gotBytes, 0);
  t.ok(near(cappedBytes, 30 * 64 * kib, 0.15), `${cappedBytes} bytes`);
  t.ok(near(capped[0]?.gotBytes ?? 0, cappedBytes / 2, 0.1), 'in equal parts');
  t.ok(near(free.gotBytes, 30 * (mib - 64 * kib), 0.1), `${free.gotBytes} bytes`);
});

t.test('a rate that was lowered or taken away holds at once', async (t) => {
  const clockwork = new Clockwork();
  const total = clockwork.bucket(mib);
  clockwork.pacer.setTotal(total);
  const peer = clockwork.peer('a');
  clockwork.run(10);
  total.setRate(64 * kib, clockwork.nowMs);
  const before = peer.gotBytes;
  clockwork.run(20);
  t.ok(near(peer.gotBytes - before, 20 * 64 * kib, 0.15));
  clockwork.pacer.setTotal(undefined);
  clockwork.pacer.wait(peer);
  clockwork.pacer.run();
  t.equal(clockwork.pacer.waiting, 0, 'nobody waits without a rate');
});

t.test('who left is not served any more', async (t) => {
  const clockwork = new Clockwork();
  clockwork.total(mib);
  const peer = clockwork.peer('a');
  clockwork.pacer.wait(peer);
  clockwork.pacer.leave(peer);
  clockwork.pacer.run();
  t.equal(peer.gotBytes, 0);
  t.equal(clockwork.pacer.waiting, 0);
});

const candidate = (address: string, options: Partial<SlotCandidate> = {}): SlotCandidate => ({
  address,
  rarity: 0,
  unchoked: false,
  sinceMs: 0,
  activeMs: 0,
  ...options,
});

t.test('the capped rate is enough for a few peers, each with two blocks a second', async (t) => {
  t.equal(slotsFor(64 * kib, { min: 1, max: 8 }, uploadLimits), 2);
  t.equal(slotsFor(1 * kib, { min: 1, max: 8 }, uploadLimits), 1);
  t.equal(slotsFor(100 * mib, { min: 1, max: 8 }, uploadLimits), 8);
});

t.test('a slot is kept for a while, then goes to who waited longest', async (t) => {
  const slots = (nowMs: number, all: SlotCandidate[]) => chooseSlots(all, 1, nowMs, uploadLimits);
  const first = candidate('first', { unchoked: true, activeMs: 29_000 });
  const second = candidate('second', { sinceMs: 2_000 });
  const third = candidate('third', { sinceMs: 1_000 });
  t.same(slots(29_000, [second, third, first]), [first]);
  t.same(slots(30_000, [second, third, first]), [third]);
  t.same(slots(40_000, [candidate('first', { unchoked: true })]).length, 1, 'nobody else wants it');
  const resting = candidate('resting', { unchoked: true, activeMs: 1_000 });
  t.same(slots(11_000, [second, resting]), [second], 'one that is not used does not wait for that');
});

t.test('a hundred connections get one slot while others wait', async (t) => {
  const many = Array.from({ length: 100 }, () => candidate('many', { unchoked: true, activeMs: 9_000 }));
  const others = ['a', 'b', 'c'].map((address) => candidate(address, { sinceMs: 9_000 }));
  const chosen = chooseSlots([...many, ...others], 4, 10_000, uploadLimits);
  t.same(chosen.map(({ address }) => address).sort(), ['a', 'b', 'c', 'many']);
});

t.test('the rarest torrents get the slots first', async (t) => {
  const chosen = chooseSlots(
    [candidate('a', { rarity: 3 }), candidate('b', { rarity: 0 }), candidate('c', { rarity: 1 })],
    2,
    0,
    uploadLimits,
  );
  t.same(
    chosen.map(({ address }) => address),
    ['b', 'c'],
  );
});
