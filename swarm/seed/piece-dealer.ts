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
/** Where the one in the middle stands is looked up this often at most: that takes a look at all of them. */
const middleEveryMs = 100;

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
  /** Pieces that one of them has. */
  #held = 0;
  #middlePiece = 0;
  #middleMs = Number.NEGATIVE_INFINITY;
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

  /** Whether there are several of them, and pieces that none of them has. */
  get piecesMissing(): boolean {
    return this.#members.size > 1 && !this.#seeded && this.#held < this.#pieces;
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
    this.#advance(member);
    // One that runs ahead of the others would soon be the only one who has what they all need, behind a link that is too narrow for it.
    const end = Math.min(member.position, this.#middle(nowMs)) + this.#reach;
    let overdue: number | undefined;
    for (let index = member.position; index < Math.min(end, this.#pieces); index++) {
      if (this.#holders[index] !== 0 || member.dealt.has(index)) continue;
      const other = this.#dealtTo.get(index);
      if (other === undefined) return index;
      if (nowMs - (other.dealt.get(index) ?? nowMs) >= overdueMs) overdue ??= index;
    }
    return overdue;
  }

  #advance(member: Member): void {
    while (member.position < this.#pieces && member.peer.has(member.position)) member.position++;
  }

  /** Where the one in the middle stands, of those who are unchoked. */
  #middle(nowMs: number): number {
    if (nowMs - this.#middleMs < middleEveryMs) return this.#middlePiece;
    this.#middleMs = nowMs;
    const positions: number[] = [];
    for (const member of this.#members.values()) {
      if (!member.unchoked) continue;
      this.#advance(member);
      positions.push(member.position);
    }
    positions.sort((a, b) => a - b);
    this.#middlePiece = positions[Math.floor((positions.length - 1) / 2)] ?? 0;
    return this.#middlePiece;
  }

  #hold(index: number): void {
    const holders = this.#holders[index] ?? 0;
    if (holders === 0) this.#held++;
    this.#holders[index] = holders + 1;
  }

  #release(index: number): void {
    const holders = this.#holders[index] ?? 0;
    if (holders === 1) this.#held--;
    this.#holders[index] = Math.max(0, holders - 1);
  }

  #takeBack(member: Member): void {
    for (const index of member.dealt.keys()) {
      if (this.#dealtTo.get(index) === member) this.#dealtTo.delete(index);
    }
    member.dealt.clear();
  }
}
