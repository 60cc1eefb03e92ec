/** One connection's part in the upload of its torrent: whether it may send freely, waits for its turn, or is choked. */
import type { InfoHash } from '../../nar/hash.ts';
import type { TokenBucket } from '../token-bucket.ts';
import type { PacedSender } from './upload-pacer.ts';
import type { UploadRecord } from './upload-policy.ts';
import type { SlotCandidate } from './upload-slots.ts';

/** What a lane needs of its connection. */
export interface LanePeer {
  /** Its next request that could be answered now, and all that wait, in bytes. */
  readonly nextBytes: number;
  readonly queuedBytes: number;
  grant(maxBytes: number): number;
  /** Told at once; requests that wait are refused. */
  choke(): void;
  unchoke(): void;
  /** No limit holds any more. */
  pump(): void;
}

/** A torrent that is being uploaded. */
export interface UploadFlow {
  readonly infoHash: InfoHash;
  readonly sizeBytes: number;
  readonly inParts: boolean;
  readonly lanes: Set<UploadLane>;
  record: UploadRecord;
  rarity: number;
  /** While it is capped. */
  bucket: TokenBucket | undefined;
}

/** What a lane needs of whoever decides about all of them. */
export interface UploadLanes {
  /** Whether a rate holds for all torrents together. */
  readonly limited: boolean;
  /** See `UploadLimits`. */
  readonly heldBackSilenceMs: number;
  now(): number;
  wants(lane: UploadLane): void;
  wait(lane: UploadLane): void;
  sent(flow: UploadFlow, bytes: number): void;
  leave(lane: UploadLane, flow: UploadFlow): void;
}

export class UploadLane implements PacedSender, SlotCandidate {
  readonly address: string;
  readonly #control: UploadLanes;
  readonly #flow: UploadFlow;
  peer: LanePeer | undefined;
  /** The peer is interested. */
  wanted = false;
  unchoked = false;
  sinceMs = 0;
  activeMs = 0;

  constructor(control: UploadLanes, flow: UploadFlow, address: string) {
    this.#control = control;
    this.#flow = flow;
    this.address = address;
  }

  /** Whether requests have to wait for their turn. */
  get paced(): boolean {
    return this.#flow.bucket !== undefined || this.#control.limited;
  }

  get rarity(): number {
    return this.#flow.rarity;
  }

  get bucket(): TokenBucket | undefined {
    return this.#flow.bucket;
  }

  get neighbours(): Iterable<UploadLane> {
    return this.#flow.lanes;
  }

  get nextBytes(): number {
    return this.peer?.nextBytes ?? 0;
  }

  /** Held back by us: its silence is not its fault. */
  get heldBack(): boolean {
    return this.wanted && !this.unchoked;
  }

  get heldBackSilenceMs(): number {
    return this.#control.heldBackSilenceMs;
  }

  grant(maxBytes: number): number {
    this.activeMs = this.#control.now();
    return this.peer?.grant(maxBytes) ?? 0;
  }

  /** The peer is there. Where nobody waits for a turn it may ask before it has said that it wants something: that saves it a round trip. */
  greets(): void {
    if (!this.paced) this.unchoke(this.#control.now());
  }

  /** The peer is interested: it is unchoked, now or when there is room. */
  wants(): void {
    this.wanted = true;
    if (!this.unchoked) this.#control.wants(this);
  }

  /** The peer has lost its interest. */
  rests(): void {
    this.wanted = false;
    // Where there are slots, its one is for others.
    if (this.paced) this.choke(this.#control.now());
  }

  wait(): void {
    this.activeMs = this.#control.now();
    this.#control.wait(this);
  }

  sent(bytes: number): void {
    this.#control.sent(this.#flow, bytes);
  }

  waitSince(nowMs: number): void {
    this.sinceMs = nowMs;
    this.activeMs = nowMs;
  }

  unchoke(nowMs: number): void {
    if (this.unchoked) return;
    this.unchoked = true;
    this.waitSince(nowMs);
    this.peer?.unchoke();
  }

  choke(nowMs: number): void {
    if (!this.unchoked) return;
    this.unchoked = false;
    this.waitSince(nowMs);
    this.peer?.choke();
  }

  close(): void {
    this.#control.leave(this, this.#flow);
  }
}
