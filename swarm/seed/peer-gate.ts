/**
 * Whom the listening socket lets in, told by the address alone and before anything is made for the connection.
 *
 * Node asks the block list of a server when the kernel hands over a connection, before it makes a socket. One that is turned away here
 * costs half the CPU time of one that may say which torrent it wants: 60 µs, most of it in the kernel.
 */
import { BlockList, type SocketAddress } from 'node:net';
import { AddressCounts } from '../address/address-counts.ts';
import { addressKey } from '../address/address-key.ts';
import { AddressSet } from '../address/address-set.ts';
import { IpAddress } from '../address/ip-address.ts';
import type { SeedLimits } from '../wire/limits.ts';

/** An address, or a network that counts as one, from which somebody is connected. */
export interface Visitor {
  /** See `addressKey`. */
  readonly key: string;
  /** As the first connection from there told it. */
  readonly address: string;
  connections: number;
  /** Those of them that are served a torrent. */
  served: number;
}

const minuteMs = 60_000;
const secondMs = 1_000;

export class PeerGate extends BlockList {
  readonly #limits: SeedLimits;
  readonly #clock: () => number;
  readonly #admits: (address: string) => boolean;
  readonly #visitors = new Map<string, Visitor>();
  /** Handshakes for unknown torrents in this minute. */
  readonly #unknown = new AddressCounts();
  /** Where they came from, in this minute and in the one before. */
  readonly #unknownFrom = new AddressSet();
  readonly #ip = new IpAddress();
  #minuteSinceMs: number;
  /** How many more of them may come now from there: a second's worth is saved up at most. */
  #unknownLeft: number;
  #refilledMs: number;
  /** Whom Node asked about last, if he may enter. */
  #let: Visitor | undefined;
  /** Connections that were turned away here. */
  refused = 0;

  /** `admits`: who may come at all, by address. */
  constructor(limits: SeedLimits, clock: () => number, admits: (address: string) => boolean = () => true) {
    super();
    this.#admits = admits;
    this.#limits = limits;
    this.#clock = clock;
    this.#minuteSinceMs = clock();
    this.#unknownLeft = limits.unknownPerSecondMax;
    this.#refilledMs = this.#minuteSinceMs;
  }

  /** Node asks whether to turn a connection away. */
  override check(address: string | SocketAddress): boolean {
    const text = typeof address === 'string' ? address : address.address;
    const key = addressKey(text);
    const visitor = this.#visitors.get(key) ?? { key, address: text, connections: 0, served: 0 };
    const { connectionsPerAddressMax } = this.#limits;
    const refused =
      !this.#admits(text) || visitor.connections >= connectionsPerAddressMax || this.#isTiresome(visitor);
    if (refused) this.refused++;
    this.#let = refused ? undefined : visitor;
    return refused;
  }

  /**
   * Counts the connection that comes, from the address that Node has just asked about: so the kernel need not be asked for it once more.
   * `undefined` when it asked about none, because the peer has left already.
   */
  enter(): Visitor | undefined {
    const visitor = this.#let;
    this.#let = undefined;
    if (visitor === undefined) return undefined;
    if (visitor.connections++ === 0) this.#visitors.set(visitor.key, visitor);
    return visitor;
  }

  leave(visitor: Visitor): void {
    if (--visitor.connections === 0) this.#visitors.delete(visitor.key);
  }

  /** A connection from there named a torrent that is not held. */
  noteUnknown({ address }: Visitor): void {
    this.#passTime();
    this.#unknownLeft = Math.max(0, this.#unknownLeft - 1);
    if (!this.#ip.read(address)) return;
    this.#unknown.add(this.#ip, 1);
    this.#unknownFrom.add(this.#ip);
  }

  /** Somebody who is being served there shows that the address is not only a nuisance: many may share it. */
  #isTiresome({ address, served }: Visitor): boolean {
    this.#passTime();
    if (served > 0 || !this.#ip.read(address)) return false;
    if (this.#unknownLeft < 1 && this.#unknownFrom.has(this.#ip)) {
      // Not forgotten while it keeps coming: or all of a flood would be let in once more at the end of a minute.
      this.#unknownFrom.add(this.#ip);
      return true;
    }
    return this.#unknown.of(this.#ip) >= this.#limits.unknownPerMinuteMax;
  }

  #passTime(): void {
    const nowMs = this.#clock();
    const { unknownPerSecondMax } = this.#limits;
    const come = ((nowMs - this.#refilledMs) / secondMs) * unknownPerSecondMax;
    this.#unknownLeft = Math.min(unknownPerSecondMax, this.#unknownLeft + come);
    this.#refilledMs = nowMs;
    if (nowMs - this.#minuteSinceMs < minuteMs) return;
    this.#minuteSinceMs = nowMs;
    this.#unknown.clear();
    this.#unknownFrom.turn();
  }
}
