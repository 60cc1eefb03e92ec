/**
 * Where the newest head of a catalog is, said in the DHT: as an item under each key that signs it, put when it is new and again every hour,
 * since nodes forget it after two; and the head's torrent is announced like others. Whoever has the items may do so, not only their signer.
 */

import type { InfoHash } from '../nar/hash.ts';
import type { Dht } from '../swarm/dht/dht.ts';
import type { DhtItem } from '../swarm/dht/dht-item.ts';
import type { Logger } from '../web/log.ts';

export interface HeadInDhtLimits {
  /** How often an item is put again. BEP 44 has nodes forget it after two hours. */
  everyMs: number;
  /** After a time when nobody took it. */
  retryMs: number;
}

export const headInDhtLimits: Readonly<HeadInDhtLimits> = { everyMs: 3_600_000, retryMs: 60_000 };

export interface HeadInDhtStatus {
  /** Of the head that was put last; 0 before. */
  sequence: number;
  /** How many other nodes had it then; of several keys the fewest. */
  nodes: number;
  failures: number;
}

export const headNotInDht: Readonly<HeadInDhtStatus> = { sequence: 0, nodes: 0, failures: 0 };

export interface HeadInDhtOptions {
  dht: Pick<Dht, 'pin' | 'unpin' | 'putItem'>;
  logger: Logger;
  limits?: Partial<HeadInDhtLimits>;
}

export class HeadInDht {
  readonly #options: HeadInDhtOptions;
  readonly #limits: HeadInDhtLimits;
  readonly #closing = new AbortController();
  #head: { infoHash: InfoHash; sequence: number; items: readonly DhtItem[] } | undefined;
  #status: HeadInDhtStatus = headNotInDht;
  #running: Promise<void> | undefined;
  #again = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: HeadInDhtOptions) {
    this.#options = options;
    this.#limits = { ...headInDhtLimits, ...options.limits };
  }

  status(): HeadInDhtStatus {
    return this.#status;
  }

  /** The newest head, and the items that name it. Of several in a row, the last one counts; the same again changes nothing. */
  show(infoHash: InfoHash, items: readonly DhtItem[]): void {
    if (this.#closing.signal.aborted || this.#head?.infoHash === infoHash) return;
    if (this.#head !== undefined) this.#options.dht.unpin(this.#head.infoHash);
    this.#options.dht.pin(infoHash);
    this.#head = { infoHash, sequence: items[0]?.seq ?? 0, items };
    this.#put();
  }

  /** May be called twice. */
  async close(): Promise<void> {
    this.#closing.abort();
    clearTimeout(this.#timer);
    await this.#running;
  }

  #put(): void {
    clearTimeout(this.#timer);
    this.#again = this.#running !== undefined;
    this.#running ??= this.#putOnce().then((nextMs) => {
      this.#running = undefined;
      if (this.#closing.signal.aborted) return;
      if (this.#again) this.#put();
      else this.#timer = setTimeout(() => this.#put(), nextMs);
    });
  }

  /** Gives in how many milliseconds it is put again. */
  async #putOnce(): Promise<number> {
    const { dht, logger } = this.#options;
    const head = this.#head;
    if (head === undefined) return this.#limits.everyMs;
    const { signal } = this.#closing;
    try {
      const counts = await Promise.all(head.items.map((item) => dht.putItem(item, signal)));
      const nodes = Math.min(...counts);
      this.#status = { ...this.#status, sequence: head.sequence, nodes };
      if (nodes > 0) return this.#limits.everyMs;
    } catch (error) {
      if (signal.aborted) return this.#limits.retryMs;
      logger.warn('head-not-in-dht', { error });
    }
    this.#status = { ...this.#status, failures: this.#status.failures + 1 };
    return this.#limits.retryMs;
  }
}
