/**
 * Joins the upload policy, the rates and the slots of one seed server: each connection has a lane here, which says whether it may send
 * freely, waits for its turn, or is choked.
 *
 * One timer for all, and only while somebody waits. Without rules and without a rate every lane is free, and costs nothing.
 */
import type { InfoHash } from '../../nar/hash.ts';
import { TokenBucket } from '../token-bucket.ts';
import { foreignBlockMaxBytes } from '../wire/limits.ts';
import { type UploadFlow, UploadLane, type UploadLanes } from './upload-lane.ts';
import { UploadLedger, type UploadRecords } from './upload-ledger.ts';
import { type UploadLimits, uploadLimits } from './upload-limits.ts';
import { rarityMax, UploadPacer } from './upload-pacer.ts';
import {
  neverUploaded,
  nextUploadRecord,
  type UploadFacts,
  type UploadRecord,
  type UploadRules,
  type UploadState,
} from './upload-policy.ts';
import { chooseSlots, slotsFor } from './upload-slots.ts';

/** When torrents are capped, and how low; without it none ever is. */
export interface UploadCap extends Omit<UploadRules, 'neverCappedBytes' | 'graceCopies'> {
  cappedBytesPerSecond: number;
  /** Where what was uploaded is remembered. */
  records: UploadRecords;
  /** Whether it is a pack; none is by default. */
  inParts?(infoHash: InfoHash): boolean;
  /** Seeds of a torrent besides this one; `undefined` when that cannot be known. */
  seedsOf(infoHash: InfoHash): number | undefined;
}

export interface UploadOptions {
  cap?: UploadCap;
  /** For all torrents together; none by default. */
  bytesPerSecond?: number | undefined;
  limits?: Partial<UploadLimits>;
  /** Milliseconds since 1970, for what is remembered. */
  wallClock?: () => number;
  /** Whether peers share a torrent that is being served and lack pieces that none of them has. */
  piecesMissing?(infoHash: InfoHash): boolean;
  /** What could not be written. */
  onFault?: (error: unknown) => void;
}

export interface UploadStatus {
  /** Torrents that are being served, by state. */
  serving: Record<UploadState, number>;
  /** The rate for all torrents together that holds now; `null` without one. */
  rateBytesPerSecond: number | null;
  cappedBytesPerSecond: number | null;
  /** Peers that want something and are choked, and bytes that others asked for and wait for their turn. */
  heldBackPeers: number;
  heldBackBytes: number;
}

export class UploadControl implements UploadLanes {
  readonly #cap: UploadCap | undefined;
  readonly #rules: UploadRules | undefined;
  readonly #limits: UploadLimits;
  readonly #clock: () => number;
  readonly #wallClock: () => number;
  readonly #piecesMissing: (infoHash: InfoHash) => boolean;
  readonly #fault: (error: unknown) => void;
  readonly #ledger: UploadLedger;
  readonly #pacer: UploadPacer;
  readonly #flows = new Map<InfoHash, UploadFlow>();
  #total: TokenBucket | undefined;
  #timer: NodeJS.Timeout | undefined;
  #flushedMs: number;

  /** `clock`: milliseconds that never go back. */
  constructor(options: UploadOptions, clock: () => number) {
    const { cap, bytesPerSecond, wallClock = Date.now, onFault = () => {} } = options;
    this.#cap = cap;
    this.#limits = { ...uploadLimits, ...options.limits };
    const { neverCappedBytes, graceCopies } = this.#limits;
    this.#rules = cap && { ...cap, neverCappedBytes, graceCopies };
    this.#clock = clock;
    this.#wallClock = wallClock;
    this.#piecesMissing = options.piecesMissing ?? (() => false);
    this.#fault = onFault;
    this.#ledger = new UploadLedger(cap?.records, this.#limits);
    this.#pacer = new UploadPacer(this.#limits, clock);
    this.#flushedMs = clock();
    this.setRate(bytesPerSecond);
  }

  /** Whether the rate for all torrents holds. */
  get limited(): boolean {
    return this.#total !== undefined;
  }

  get heldBackSilenceMs(): number {
    return this.#limits.heldBackSilenceMs;
  }

  status(): UploadStatus {
    const serving: UploadStatus['serving'] = { swarming: 0, capped: 0 };
    let heldBackPeers = 0;
    let heldBackBytes = 0;
    for (const { record, lanes } of this.#flows.values()) {
      serving[record.state]++;
      for (const lane of lanes) {
        if (lane.wanted && !lane.unchoked) heldBackPeers++;
        if (lane.paced) heldBackBytes += lane.peer?.queuedBytes ?? 0;
      }
    }
    return {
      serving,
      rateBytesPerSecond: this.#total?.bytesPerSecond ?? null,
      cappedBytesPerSecond: this.#cap?.cappedBytesPerSecond ?? null,
      heldBackPeers,
      heldBackBytes,
    };
  }

  /** The rate for all torrents together; `undefined` for none. */
  setRate(bytesPerSecond: number | undefined): void {
    if (bytesPerSecond === this.#total?.bytesPerSecond) return;
    if (bytesPerSecond === undefined) this.#total = undefined;
    else if (this.#total === undefined) this.#total = this.#bucket(bytesPerSecond);
    else this.#total.setRate(bytesPerSecond, this.#clock());
    this.#pacer.setTotal(this.#total);
    this.#rechoke();
    this.#run();
  }

  /** For a connection that is about to be served. Throws what the records throw. */
  open(infoHash: InfoHash, sizeBytes: number, address: string): UploadLane {
    let flow = this.#flows.get(infoHash);
    if (flow === undefined) {
      const record = this.#ledger.get(infoHash);
      const inParts = this.#inParts(infoHash);
      flow = { infoHash, sizeBytes, inParts, lanes: new Set(), record, rarity: 0, bucket: undefined };
      this.#flows.set(infoHash, flow);
      this.#look(flow);
    }
    const lane = new UploadLane(this, flow, address);
    flow.lanes.add(lane);
    return lane;
  }

  /** Whether nothing holds a torrent back now: neither a rate for all nor that it has had enough. */
  isFree(infoHash: InfoHash, sizeBytes: number): boolean {
    return !this.limited && this.#count(infoHash, sizeBytes, 0).state === 'swarming';
  }

  /** Bytes of a torrent that left by another way than these connections, and count all the same. */
  sentElsewhere(infoHash: InfoHash, sizeBytes: number, bytes: number): void {
    this.#count(infoHash, sizeBytes, bytes);
  }

  /** Looks at seeds and slots, and writes down what was uploaded. To be called every second or so. */
  sweep(): void {
    if (this.#cap !== undefined) for (const flow of this.#flows.values()) this.#look(flow);
    this.#rechoke();
    const nowMs = this.#clock();
    if (nowMs - this.#flushedMs < this.#limits.flushMs) return;
    this.#flushedMs = nowMs;
    this.#flush();
  }

  /** Writes down what is left. */
  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#flush(true);
  }

  // What lanes tell

  wants(lane: UploadLane): void {
    if (this.#hasRoom(lane)) lane.unchoke(this.#clock());
    else lane.waitSince(this.#clock());
  }

  wait(lane: UploadLane): void {
    this.#pacer.wait(lane);
    // What the rates allow at once need not wait for the next tick.
    if ((this.#total?.available(this.#clock()) ?? 1) > 0) this.#run();
  }

  sent(flow: UploadFlow, bytes: number): void {
    if (this.#cap !== undefined) this.#move(flow, bytes, this.#cap.seedsOf(flow.infoHash));
  }

  leave(lane: UploadLane, flow: UploadFlow): void {
    this.#pacer.leave(lane);
    flow.lanes.delete(lane);
    if (flow.lanes.size === 0) this.#flows.delete(flow.infoHash);
  }

  now(): number {
    return this.#clock();
  }

  #look(flow: UploadFlow): void {
    const otherSeeds = this.#cap?.seedsOf(flow.infoHash);
    flow.rarity = Math.min(otherSeeds ?? 0, rarityMax);
    this.#move(flow, 0, otherSeeds);
  }

  #move(flow: UploadFlow, sentBytes: number, otherSeeds: number | undefined): void {
    if (this.#cap === undefined) return;
    const piecesMissing = this.#piecesMissing(flow.infoHash);
    const { sizeBytes, inParts } = flow;
    const facts = { sizeBytes, inParts, sentBytes, otherSeeds, piecesMissing };
    flow.record = this.#next(flow.infoHash, flow.record, facts);
    const capped = flow.record.state === 'capped';
    if (capped === (flow.bucket !== undefined)) return;
    flow.bucket = capped ? this.#bucket(this.#cap.cappedBytesPerSecond) : undefined;
    this.#rechoke();
    this.#run();
    if (!capped && !this.limited) for (const lane of flow.lanes) lane.peer?.pump();
  }

  #count(infoHash: InfoHash, sizeBytes: number, sentBytes: number): UploadRecord {
    const flow = this.#flows.get(infoHash);
    if (flow !== undefined) {
      this.#move(flow, sentBytes, this.#cap?.seedsOf(infoHash));
      return flow.record;
    }
    if (this.#cap === undefined) return neverUploaded;
    const otherSeeds = this.#cap.seedsOf(infoHash);
    const inParts = this.#inParts(infoHash);
    const facts = { sizeBytes, inParts, sentBytes, otherSeeds, piecesMissing: false };
    return this.#next(infoHash, this.#ledger.get(infoHash), facts);
  }

  /** What is to be remembered of a torrent from now on. */
  #next(infoHash: InfoHash, before: UploadRecord, facts: Omit<UploadFacts, 'nowMs'>): UploadRecord {
    if (this.#rules === undefined) return before;
    const record = nextUploadRecord(before, { ...facts, nowMs: this.#wallClock() }, this.#rules);
    // A torrent that was looked at but never uploaded needs no row.
    if (record.uploadedBytes > 0) this.#ledger.set(infoHash, record);
    return record;
  }

  #inParts(infoHash: InfoHash): boolean {
    return this.#cap?.inParts?.(infoHash) ?? false;
  }

  #bucket(bytesPerSecond: number): TokenBucket {
    return new TokenBucket(bytesPerSecond, this.#limits.burstMs, foreignBlockMaxBytes, this.#clock());
  }

  /** Whether one more peer can be unchoked at once. */
  #hasRoom(lane: UploadLane): boolean {
    if (!lane.paced) return true;
    const { capped, total } = this.#slots();
    const unchoked = (lanes: Iterable<UploadLane>): number => {
      let count = 0;
      for (const each of lanes) if (each.unchoked) count++;
      return count;
    };
    if (lane.bucket !== undefined && unchoked(lane.neighbours) >= capped) return false;
    if (this.#total === undefined) return true;
    let all = 0;
    for (const { lanes } of this.#flows.values()) all += unchoked(lanes);
    return all < total;
  }

  #slots(): { capped: number; total: number } {
    const { cappedSlotsMax, totalSlotsMin } = this.#limits;
    const rate = (bytesPerSecond: number | undefined): number => bytesPerSecond ?? Number.POSITIVE_INFINITY;
    const none = Number.POSITIVE_INFINITY;
    return {
      capped: slotsFor(rate(this.#cap?.cappedBytesPerSecond), { min: 1, max: cappedSlotsMax }, this.#limits),
      total: slotsFor(rate(this.#total?.bytesPerSecond), { min: totalSlotsMin, max: none }, this.#limits),
    };
  }

  #rechoke(): void {
    const nowMs = this.#clock();
    const { capped, total } = this.#slots();
    const winners: UploadLane[] = [];
    for (const { lanes, bucket } of this.#flows.values()) {
      const wanting = [...lanes].filter((lane) => lane.wanted);
      const some = bucket === undefined ? wanting : chooseSlots(wanting, capped, nowMs, this.#limits);
      winners.push(...some);
    }
    const unchoked = new Set(
      this.#total === undefined ? winners : chooseSlots(winners, total, nowMs, this.#limits),
    );
    for (const { lanes } of this.#flows.values()) {
      for (const lane of lanes) {
        if (unchoked.has(lane)) lane.unchoke(nowMs);
        // One that said it wants nothing must not come back past the others.
        else if (lane.wanted || lane.paced) lane.choke(nowMs);
      }
    }
  }

  #run(): void {
    this.#pacer.run();
    if (this.#pacer.waiting === 0) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#run();
    }, this.#limits.tickMs);
  }

  #flush(last = false): void {
    try {
      this.#ledger.flush(last);
    } catch (error) {
      this.#fault(error);
    }
  }
}
