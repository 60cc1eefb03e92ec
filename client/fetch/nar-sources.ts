/** The sources of a NAR file: an HTTP cache, and the swarm of its torrent. */

import { NarswarmError } from '../../nar/errors.ts';
import { parseNarInfo } from '../../nar/narinfo.ts';
import { storeHashOf } from '../../nar/store-path.ts';
import { TorrentFetch } from '../../swarm/fetch/fetcher.ts';
import type { HashThread } from '../../swarm/fetch/hash-thread.ts';
import type { PeerBook } from '../../swarm/fetch/peer-book.ts';
import type { Torrent } from '../../swarm/torrent/torrent.ts';
import type { HttpCache, OpenNar } from '../../upstream/http-cache.ts';
import type { Found } from '../asking/catalog-client.ts';
import type { ClientLimits } from '../config.ts';
import type { NarBytes, NarSource, OpenNarBytes } from '../race/nar-source.ts';
import type { SharedSwarm } from '../share/shared-fetch.ts';
import type { GivenNarInfo } from '../state/state.ts';
import { StallGuard } from '../waiting.ts';

/** How many milliseconds an HTTP source is waited for. */
export interface HttpPatience {
  readonly firstByte: number;
  /** From then on. */
  readonly between: number;
  /** After it stalled. */
  readonly again: number;
}

/** An upstream, or a catalog that gave the narinfo. */
export class HttpSource implements NarSource {
  readonly kind = 'http';
  readonly name: string;
  readonly #cache: HttpCache;
  readonly #given: GivenNarInfo;
  readonly #stallMs: HttpPatience;
  readonly #sizeBytes: () => number | undefined;
  /** In any attempt: some may run side by side. */
  #stalled = false;

  constructor(
    cache: HttpCache,
    given: GivenNarInfo,
    stallMs: HttpPatience,
    sizeBytes: () => number | undefined,
  ) {
    this.name = cache.url;
    this.#cache = cache;
    this.#given = given;
    this.#stallMs = stallMs;
    this.#sizeBytes = sizeBytes;
  }

  stalled(): boolean {
    return this.#stalled;
  }

  async open(fromByte: number, signal: AbortSignal): Promise<OpenNarBytes | undefined> {
    const { firstByte, between, again } = this.#stallMs;
    const stalled = this.stalled();
    // One that stalled may give a little and stall again.
    const guard = stalled
      ? new StallGuard(again, signal, this.name)
      : new StallGuard(between, signal, this.name, firstByte);
    const onAbort = (): void => {
      this.#stalled ||= guard.stalled;
    };
    guard.signal.addEventListener('abort', onAbort, { once: true });
    try {
      const opened = await this.#openNar(fromByte, guard.signal);
      if (opened === undefined) {
        guard.close();
        return undefined;
      }
      // One that stalled is believed when bytes come.
      if (!stalled) guard.touch();
      return { lengthBytes: opened.lengthBytes, bytes: guarded(opened.body, guard) };
    } catch (error) {
      guard.close();
      throw error;
    }
  }

  /**
   * The cache that gave the narinfo is asked for its URL. Another one may have other bytes under that URL, or the same
   * under another: its own narinfo tells. So does a new one of the same cache when the URL is gone.
   */
  async #openNar(fromByte: number, signal: AbortSignal): Promise<OpenNar | undefined> {
    const { origin, narUrl, narInfo } = this.#given;
    if (origin === this.#cache.url) {
      const opened = await this.#cache.openNar(narUrl, { fromByte, signal });
      if (opened !== undefined) return this.#checkSize(opened);
    }
    const text = await this.#cache.getNarInfo(storeHashOf(narInfo.storePath), signal);
    if (text === undefined) return undefined;
    const other = parseNarInfo(text);
    if (other.fileHash !== narInfo.fileHash) return undefined;
    if (origin === this.#cache.url && other.url === narUrl) return undefined;
    const opened = await this.#cache.openNar(other.url, { fromByte, signal });
    return opened && this.#checkSize(opened);
  }

  async #checkSize(opened: OpenNar): Promise<OpenNar> {
    const expected = this.#sizeBytes();
    if (opened.lengthBytes === undefined || expected === undefined || opened.lengthBytes === expected)
      return opened;
    await opened.body.return();
    throw new NarswarmError(
      'file-size-mismatch',
      `${this.name} has ${opened.lengthBytes} bytes, not ${expected}`,
    );
  }
}

/** Whoever gives fewer bytes than these in the time for which it is waited counts as silent: a byte now and then would keep Nix waiting for days. */
const leastBytes = 1024;

async function* guarded(body: AsyncIterable<Buffer>, guard: StallGuard): AsyncGenerator<NarBytes> {
  let sinceTouch = 0;
  try {
    for await (const bytes of body) {
      yield { bytes, checked: false };
      sinceTouch += bytes.length;
      if (sinceTouch < leastBytes) continue;
      sinceTouch = 0;
      guard.touch();
    }
  } finally {
    guard.close();
  }
}

/** The peers of one torrent. */
export class SwarmSource implements NarSource {
  readonly kind = 'swarm';
  readonly name = 'swarm';
  readonly #options: SwarmSourceOptions;

  constructor(options: SwarmSourceOptions) {
    this.#options = options;
  }

  async open(fromByte: number, signal: AbortSignal, patient = false): Promise<OpenNarBytes | undefined> {
    const { find, limits, share, book, hashes } = this.#options;
    const found = await find(signal, patient);
    if (found === undefined) return undefined;
    const { torrent } = found;
    const shared = share(torrent);
    // Those whom the others ask may be there in a moment.
    if (found.peers.length === 0) await shared?.found(signal);
    if (found.peers.length === 0 && !shared?.fetch.peers.length) return undefined;
    const fetch = new TorrentFetch({
      torrent,
      fromByte,
      hold: true,
      stallMs: patient ? limits.swarmPatienceMs : limits.swarmStallMs,
      signal,
      book,
      hashes,
      ...(shared?.fetch.tellsPeers && { share: shared.fetch }),
    });
    const forget = shared?.fetch.namePeersTo(fetch);
    if (forget !== undefined) void fetch.ended.then(forget);
    fetch.addPeers(found.peers);
    if (shared === undefined) fetch.noMorePeers();
    else void shared.asked().then(() => fetch.noMorePeers());
    let first = fromByte;
    return {
      lengthBytes: torrent.length,
      live: Promise.race([fetch.live, fetch.ended]),
      startAt: (byte) => {
        first = byte;
        fetch.start(byte);
      },
      receivedBytes: () => fetch.stats().downloadedBytes,
      bytes: (async function* () {
        try {
          for await (const { offset, bytes, peers } of fetch) {
            yield { bytes: bytes.subarray(Math.max(0, first - offset)), checked: true, peers };
          }
        } finally {
          await fetch.close();
        }
      })(),
    };
  }
}

export interface SwarmSourceOptions {
  /** Called at each attempt, for the peers of that moment; `patient` when there is nothing else to wait for. */
  find(signal: AbortSignal, patient: boolean): Promise<Found | undefined>;
  limits: Pick<ClientLimits, 'swarmStallMs' | 'swarmPatienceMs'>;
  book: PeerBook;
  hashes?: HashThread | undefined;
  /** Whether the NAR file is shared while it is fetched. */
  share(torrent: Torrent): SharedSwarm | undefined;
}
