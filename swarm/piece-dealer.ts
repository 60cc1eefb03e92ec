/**
 * Has each piece of a torrent leave the seeder once, when several peers that share fetch it at the same time: different pieces are
 * suggested to different peers (BEP 6), and each gets the rest from the others. Decisions only: no sockets.
 *
 * It is advice: what a peer asks for is served, suggested or not. A peer that comes forward gets more suggested, a slow one holds up
 * nobody for long, and with a single peer there is nothing to deal.
 */

/** A peer that shares what it fetches, as the dealer sees it. */
export interface DealtPeer {
  /** Whether it has a piece, by what it told. */
  has(index: number): boolean;
  /** From now on it is to ask us for what is suggested only, or for anything. */
  deals(on: boolean): void;
  offer(indexes: readonly number[]): void;
}

/** Bytes beyond its first missing piece that a peer is suggested: what a streaming peer keeps room for, less what it works on. */
const reachBytes = 12 * 1024 * 1024;
/** Pieces that a peer has to fetch from us at once: two, so that one is asked for while another comes, and more for the quick. */
const windowMin = 2;
const windowMax = 16;
/** A piece that came within this makes the window grow, one that took four times as long makes it shrink. */
const quickMs = 250;
/** A piece that a peer has not got after this long is suggested to others as well. */
const overdueMs = 10_000;

interface Member {
  readonly peer: DealtPeer;
  /** Pieces suggested to it, or that it asked for, and when. */
  readonly dealt: Map<number, number>;
  window: number;
  /** Its first missing piece is not before this one. */
  position: number;
  unchoked: boolean;
}

export class PieceDealer {
  readonly #pieces: number;
  readonly #reach: number;
  readonly #clock: () => number;
  readonly #members = new Map<DealtPeer, Member>();
  /** How many of them have each piece. */
  readonly #holders: Uint16Array;
  /** To whom each piece that none of them has was given last. */
  readonly #dealtTo = new Map<number, Member>();
  /** One of them has got everything and left: it seeds now, and nothing has to leave again. */
  #seeded = false;

  constructor(pieces: number, pieceLength: number, clock: () => number) {
    this.#pieces = pieces;
    this.#reach = Math.max(windowMin, Math.floor(reachBytes / pieceLength));
    this.#clock = clock;
    this.#holders = new Uint16Array(pieces);
  }

  get members(): number {
    return this.#members.size;
  }

  join(peer: DealtPeer): void {
    if (this.#members.has(peer)) return;
    this.#members.set(peer, { peer, dealt: new Map(), window: windowMin, position: 0, unchoked: false });
    for (let index = 0; index < this.#pieces; index++) if (peer.has(index)) this.#hold(index);
    if (this.#members.size === 2) for (const each of this.#members.keys()) each.deals(true);
    else if (this.#members.size > 2) peer.deals(true);
    this.fill();
  }

  /** It is gone; `complete` when it has everything. */
  leave(peer: DealtPeer, complete: boolean): void {
    const member = this.#members.get(peer);
    if (member === undefined) return;
    this.#members.delete(peer);
    this.#takeBack(member);
    if (complete) this.#seeded = true;
    else for (let index = 0; index < this.#pieces; index++) if (peer.has(index)) this.#release(index);
    if (this.#members.size === 1) for (const each of this.#members.keys()) each.deals(false);
    this.fill();
  }

  unchoked(peer: DealtPeer): void {
    const member = this.#members.get(peer);
    if (member === undefined) return;
    member.unchoked = true;
    this.#fill(member);
  }

  /** What was suggested to it is for others. */
  choked(peer: DealtPeer): void {
    const member = this.#members.get(peer);
    if (member === undefined) return;
    member.unchoked = false;
    this.#takeBack(member);
    this.fill();
  }

  /** It says that it has a piece which it did not have before. */
  had(peer: DealtPeer, index: number): void {
    const member = this.#members.get(peer);
    if (member === undefined) return;
    this.#hold(index);
    const sinceMs = member.dealt.get(index);
    if (sinceMs !== undefined) {
      member.dealt.delete(index);
      const tookMs = this.#clock() - sinceMs;
      if (tookMs <= quickMs) member.window = Math.min(member.window + 1, windowMax);
      else if (tookMs > 4 * quickMs) member.window = Math.max(member.window - 1, windowMin);
    }
    this.#dealtTo.delete(index);
    this.#fill(member);
  }

  /** It asked for something of a piece. */
  asked(peer: DealtPeer, index: number): void {
    const member = this.#members.get(peer);
    if (member === undefined || this.#holders[index] !== 0 || this.#dealtTo.has(index)) return;
    this.#dealtTo.set(index, member);
    member.dealt.set(index, this.#clock());
  }

  /** To be called every second or so, for what is overdue. */
  fill(): void {
    for (const member of this.#members.values()) this.#fill(member);
  }

  #fill(member: Member): void {
    if (!member.unchoked || this.#members.size < 2 || this.#seeded) return;
    const nowMs = this.#clock();
    const picks: number[] = [];
    while (member.dealt.size < member.window) {
      const index = this.#pick(member, nowMs);
      if (index === undefined) break;
      this.#dealtTo.set(index, member);
      member.dealt.set(index, nowMs);
      picks.push(index);
    }
    if (picks.length > 0) member.peer.offer(picks);
  }

  /** The first piece within its reach that nobody has and nobody fetches, or not fast enough. */
  #pick(member: Member, nowMs: number): number | undefined {
    const { peer } = member;
    while (member.position < this.#pieces && peer.has(member.position)) member.position++;
    const end = Math.min(member.position + this.#reach, this.#pieces);
    let overdue: number | undefined;
    for (let index = member.position; index < end; index++) {
      if (this.#holders[index] !== 0 || member.dealt.has(index)) continue;
      const other = this.#dealtTo.get(index);
      if (other === undefined) return index;
      if (nowMs - (other.dealt.get(index) ?? nowMs) >= overdueMs) overdue ??= index;
    }
    return overdue;
  }

  #hold(index: number): void {
    this.#holders[index] = (this.#holders[index] ?? 0) + 1;
  }

  #release(index: number): void {
    this.#holders[index] = Math.max(0, (this.#holders[index] ?? 0) - 1);
  }

  #takeBack(member: Member): void {
    for (const index of member.dealt.keys()) {
      if (this.#dealtTo.get(index) === member) this.#dealtTo.delete(index);
    }
    member.dealt.clear();
  }
}
