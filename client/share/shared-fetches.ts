/**
 * The NAR files that are shared while they are fetched: announced at once, to trackers, to the local network or to both, and served piece by
 * piece.
 */

import { setTimeout as delay } from 'node:timers/promises';
import type { InfoHash } from '../../nar/hash.ts';
import { mayBeNamed } from '../../parts/named-peers.ts';
import type { PeerAddress } from '../../swarm/address/peer-address.ts';
import type { SeedHandle } from '../../swarm/seed/seed-server.ts';
import type { Torrent } from '../../swarm/torrent/torrent.ts';
import { announce } from '../../swarm/tracker/tracker-client.ts';
import type { Logger } from '../../web/log.ts';
import { SharedFetch, type SharedFetchOptions } from './shared-fetch.ts';

/** What is told to trackers, and piece by piece to peers: smaller NAR files are here before any of them could ask for a part. */
export const sharedFetchMinBytes = 4 * 1024 * 1024;

/** Those are here before a tracker has answered, but not before the local network has. From here on NAR files are not tiny. */
export const askedFetchMinBytes = 256 * 1024;

/** Peers asked of a tracker: more than a fetch connects to. */
const numWant = 50;

/** For taking one back. */
const stopMs = 500;

/** For the first announce, after which the peers that are known count as all. */
const firstAnnounceMs = 2_000;

export interface SharedFetchesOptions {
  /** Base URLs of those that are told at this moment; none when they are not to know. */
  trackers(): readonly string[];
  /** Says to the local network that a torrent is fetched, and asks for it. */
  askLocally(infoHash: InfoHash): void;
  /** Whom it was heard to have it. */
  knownLocally(infoHash: InfoHash): PeerAddress[];
  /** How long answers from there take at most, in milliseconds. */
  localAnswerMs: number;
  /** With whom anything is shared, by IP address. */
  admits(host: string): boolean;
  /** Of the seed server. */
  peerId(): Buffer;
  port(): number;
  /** Of everything, in bytes. */
  uploadedBytes(): number;
  logger: Logger;
}

export class SharedFetches {
  readonly #options: SharedFetchesOptions;
  /** Announces under way. */
  readonly #announcing = new Set<Promise<unknown>>();
  readonly #running = new Map<
    InfoHash,
    { fetch: SharedFetch; stop: AbortController; announced: Promise<void> }
  >();

  constructor(options: SharedFetchesOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#running.size;
  }

  /** Shares a fetch from now until `end`. */
  begin(options: Pick<SharedFetchOptions, 'torrent' | 'bytes' | 'openHeld'>): SharedFetch {
    const { peerId, port, admits, askLocally, knownLocally } = this.#options;
    const { infoHash } = options.torrent;
    const tellsPeers = isTold(options.torrent);
    const own = { listenPort: port(), peerId: peerId(), admits, tellsPeers };
    const fetch = new SharedFetch({ ...options, ...own });
    fetch.addPeers(knownLocally(infoHash));
    const stop = new AbortController();
    this.#running.get(infoHash)?.stop.abort();
    const announced = this.#announceFirst(fetch, stop.signal);
    this.#running.set(infoHash, { fetch, stop, announced });
    askLocally(infoHash);
    return fetch;
  }

  /** Resolves when trackers and local network have been asked once, or did not answer in time. Never rejects. */
  async asked(fetch: SharedFetch): Promise<void> {
    await this.#running.get(fetch.torrent.infoHash)?.announced;
  }

  /** `kept`: it is announced as a whole file from now on. */
  end(fetch: SharedFetch, kept: boolean): void {
    fetch.end();
    const running = this.#running.get(fetch.torrent.infoHash);
    if (running?.fetch !== fetch) return;
    running.stop.abort();
    this.#running.delete(fetch.torrent.infoHash);
    if (!kept && this.#isTracked(fetch))
      this.#track(this.#announce(fetch, 'stopped', AbortSignal.timeout(stopMs)));
  }

  infoHashes(): InfoHash[] {
    return [...this.#running.keys()];
  }

  has(infoHash: InfoHash): boolean {
    return this.#running.has(infoHash);
  }

  open(infoHash: InfoHash): SeedHandle | undefined {
    return this.#running.get(infoHash)?.fetch.open();
  }

  /** A peer that fetches from us takes connections itself. */
  onListener(infoHash: InfoHash, peer: PeerAddress): void {
    this.#running.get(infoHash)?.fetch.addPeers([peer]);
  }

  /** Lets what is being taken back get through, for a moment. */
  async close(): Promise<void> {
    for (const { stop } of this.#running.values()) stop.abort();
    await Promise.all(this.#announcing);
  }

  #track(work: Promise<unknown>): void {
    this.#announcing.add(work);
    void work.finally(() => this.#announcing.delete(work));
  }

  #isTracked({ torrent }: SharedFetch): boolean {
    return this.#options.trackers().length > 0 && isTold(torrent);
  }

  async #announceFirst(fetch: SharedFetch, signal: AbortSignal): Promise<void> {
    const waited = new AbortController();
    const wait = (ms: number): Promise<void> =>
      delay(ms, undefined, { signal: AbortSignal.any([signal, waited.signal]) }).catch(() => undefined);
    const local = wait(this.#options.localAnswerMs);
    if (this.#isTracked(fetch)) {
      const first = this.#announce(fetch, 'started', signal);
      this.#track(this.#announceAgain(fetch, first, signal));
      await Promise.race([first, wait(firstAnnounceMs)]);
    }
    await local;
    waited.abort();
  }

  /** A fetch that takes long stays known. */
  async #announceAgain(fetch: SharedFetch, first: Promise<number>, signal: AbortSignal): Promise<void> {
    for (
      let seconds = await first;
      !signal.aborted;
      seconds = await this.#announce(fetch, undefined, signal)
    ) {
      await delay(seconds * 1_000, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
    }
  }

  /** To all catalogs; resolves with the seconds until the next time. */
  async #announce(
    fetch: SharedFetch,
    event: 'started' | 'stopped' | undefined,
    signal: AbortSignal,
  ): Promise<number> {
    const { trackers, uploadedBytes, logger } = this.#options;
    const retrySeconds = 300;
    const intervals = await Promise.all(
      trackers().map(async (catalog) => {
        try {
          const { intervalSeconds, peers } = await announce({
            url: `${catalog}/announce`,
            infoHash: fetch.torrent.infoHash,
            peerId: fetch.peerId,
            port: fetch.listenPort,
            uploaded: uploadedBytes(),
            downloaded: 0,
            // Whoever is still fetching lacks something.
            left: Math.max(1, fetch.leftBytes),
            numWant,
            signal,
            allows: mayBeNamed,
            ...(event === undefined ? {} : { event }),
          });
          fetch.addPeers(peers);
          return intervalSeconds;
        } catch (error) {
          if (!signal.aborted) logger.warn('announce-failed', { infoHash: fetch.torrent.infoHash, error });
          return retrySeconds;
        }
      }),
    );
    return Math.min(retrySeconds, ...intervals);
  }
}

function isTold(torrent: Torrent): boolean {
  return torrent.length >= sharedFetchMinBytes;
}
