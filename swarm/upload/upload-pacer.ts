/**
 * Gives out what the upload rates allow: one for all torrents together, and one for each torrent that is capped.
 *
 * Peers take turns by address. Torrents with the fewest other seeds go first, and the others share a small part. Nothing here runs by
 * itself: whoever waits is served by `run`, a bounded amount at a time, and who is under no limit never comes here.
 */

import type { TokenBucket } from '../token-bucket.ts';
import { FairQueue, type Waiting } from './fair-queue.ts';
import type { UploadLimits } from './upload-limits.ts';

/** One peer that has requests to be answered. */
export interface PacedSender extends Waiting {
  /** Other seeds of its torrent, at most `rarityMax`: the fewer, the earlier. */
  readonly rarity: number;
  /** The rate of its torrent, if that is capped. */
  readonly bucket: TokenBucket | undefined;
  /** Bytes of the request that it would answer next; 0 when it cannot now. */
  readonly nextBytes: number;
  /** Lets it answer requests of `maxBytes` together, at least the next one. Returns the bytes that it takes. */
  grant(maxBytes: number): number;
}

/** From this number of other seeds on, all torrents are alike. */
export const rarityMax = 3;

/** Torrents with so many other seeds. */
interface Rarity {
  readonly queue: FairQueue<PacedSender>;
  /** When it was last given something under the rate for all. */
  servedMs: number;
}

export class UploadPacer {
  readonly #limits: UploadLimits;
  readonly #clock: () => number;
  #total: TokenBucket | undefined;
  readonly #byRarity = Array.from(
    { length: rarityMax + 1 },
    (): Rarity => ({ queue: new FairQueue(), servedMs: Number.NEGATIVE_INFINITY }),
  );
  /** In which of these each one waits. */
  readonly #waiting = new Map<PacedSender, FairQueue<PacedSender>>();
  /** Those whose torrent's rate is used up. */
  readonly #parked = new Set<PacedSender>();
  /** Bytes that torrents which are not the rarest have coming. */
  #owedBytes = 0;
  #turn = 0;

  constructor(limits: UploadLimits, clock: () => number) {
    this.#limits = limits;
    this.#clock = clock;
  }

  /** Peers that wait for their turn. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** For all torrents together. */
  setTotal(bucket: TokenBucket | undefined): void {
    this.#total = bucket;
  }

  /** Has its turn come as soon as the rates allow. May be called again. */
  wait(sender: PacedSender): void {
    if (!this.#waiting.has(sender)) this.#enqueue(sender);
  }

  /** It no longer waits. */
  leave(sender: PacedSender): void {
    this.#waiting.get(sender)?.leave(sender);
    this.#waiting.delete(sender);
    this.#parked.delete(sender);
  }

  /** Gives out what there is. To be called again in a moment while anybody waits. */
  run(): void {
    const nowMs = this.#clock();
    for (const sender of this.#parked) {
      if ((sender.bucket?.available(nowMs) ?? Number.POSITIVE_INFINITY) < sender.nextBytes) continue;
      this.#parked.delete(sender);
      this.#enqueue(sender);
    }
    for (let served = true; served; ) served = this.#serve(nowMs);
  }

  #enqueue(sender: PacedSender): void {
    const queue = this.#byRarity[Math.min(sender.rarity, rarityMax)]?.queue;
    if (queue === undefined) return;
    this.#waiting.set(sender, queue);
    queue.join(sender);
  }

  /** Of all torrents together. */
  #left(nowMs: number): number {
    return this.#total?.available(nowMs) ?? Number.POSITIVE_INFINITY;
  }

  /** Those whose members have just been served count as well: they are about to come back. */
  #present(nowMs: number): Rarity[] {
    const sinceMs = nowMs - 2 * this.#limits.tickMs;
    return this.#byRarity.filter(({ queue, servedMs }) => queue.members > 0 || servedMs >= sinceMs);
  }

  #next(nowMs: number): Rarity | undefined {
    const [rarest, ...rest] = this.#present(nowMs);
    const others = rest.filter(({ queue }) => queue.members > 0);
    if (rest.length === 0) this.#owedBytes = 0;
    if (others.length === 0 || this.#owedBytes < this.#limits.quantumMinBytes) return rarest;
    // All of them in turn, the commonest included.
    return others[this.#turn % others.length];
  }

  /**
   * One turn; false when there is nothing to give, or not enough for whose turn it is: then all wait, or those who ask for little would
   * have it taken from them. Who was served is back only when it has sent that, so that it is given its part of what is left at once.
   */
  #serve(nowMs: number): boolean {
    const next = this.#next(nowMs);
    const first = next?.queue.first();
    if (next === undefined || first === undefined) return false;
    const { queue } = next;
    const { member: sender, behindBytes } = first;
    const { nextBytes, bucket, address } = sender;
    const ofTorrent = bucket?.available(nowMs) ?? Number.POSITIVE_INFINITY;
    const left = this.#left(nowMs);
    if (nextBytes === 0) {
      this.leave(sender);
      return true;
    }
    if (ofTorrent < nextBytes) {
      queue.leave(sender);
      this.#parked.add(sender);
      return true;
    }
    if (left < nextBytes) return false;
    const { quantumMinBytes, quantumMaxBytes, othersShare } = this.#limits;
    const rarest = next === this.#present(nowMs)[0];
    const share = (left / queue.addresses + behindBytes) / queue.membersOf(address);
    const part = rarest ? share : Math.min(share, this.#owedBytes);
    this.leave(sender);
    const bytes = sender.grant(Math.min(Math.max(part, quantumMinBytes), left, ofTorrent, quantumMaxBytes));
    queue.charge(address, bytes);
    bucket?.take(bytes);
    if (this.#total === undefined) return true;
    this.#total.take(bytes);
    next.servedMs = nowMs;
    if (rarest) {
      this.#owedBytes += (bytes * othersShare) / (1 - othersShare);
    } else {
      this.#owedBytes = Math.max(0, this.#owedBytes - bytes);
      this.#turn++;
    }
    return true;
  }
}
