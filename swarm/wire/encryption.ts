/**
 * What the connections of a seed server share about encrypted handshakes: the torrents that they may name, how many of them are
 * taken, and who gains nothing by them.
 */
import type { NamedTorrents } from './encrypted-handshake.ts';
import type { SeedLimits } from './limits.ts';
import type { OpeningOptions } from './opening-reader.ts';

const secondMs = 1_000;
/** Addresses remembered because a peer there insisted on encryption; the one that did so longest ago goes. */
const insistentMax = 4_096;

export class Encryption {
  readonly #torrents: NamedTorrents;
  readonly #limits: SeedLimits;
  readonly #clock: () => number;
  readonly #insistent = new Set<string>();
  #sinceMs: number;
  #count = 0;

  constructor(torrents: NamedTorrents, limits: SeedLimits, clock: () => number) {
    this.#torrents = torrents;
    this.#limits = limits;
    this.#clock = clock;
    this.#sinceMs = clock();
  }

  /** For one connection; `address` is the peer's, see `addressKey`. */
  options(address: string, write: (bytes: Buffer) => void): OpeningOptions {
    return {
      torrents: this.#torrents,
      write,
      mayDecrypt: () => !this.#insistent.has(address) && this.#mayCompute(),
      insists: () => this.#remember(address),
    };
  }

  /**
   * Transmission asks for nothing but encryption as it comes. Refused after the exchange of keys it goes on in cipher by mistake, for ever;
   * refused at its first byte it comes back with a plain handshake. So from the second time on it is refused there.
   */
  #remember(address: string): void {
    this.#insistent.delete(address);
    this.#insistent.add(address);
    const [oldest] = this.#insistent;
    if (this.#insistent.size > insistentMax && oldest !== undefined) this.#insistent.delete(oldest);
  }

  #mayCompute(): boolean {
    const nowMs = this.#clock();
    if (nowMs - this.#sinceMs >= secondMs) {
      this.#sinceMs = nowMs;
      this.#count = 0;
    }
    return ++this.#count <= this.#limits.encryptedHandshakesPerSecond;
  }
}
