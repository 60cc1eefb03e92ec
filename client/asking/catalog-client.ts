/**
 * Asks the catalogs for the torrents and peers of NAR files.
 *
 * Questions are gathered into requests: Nix asks for the narinfos of a whole closure first, and each of them is looked
 * up here at once, so that the answer is there when the NAR file is asked for.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { NarswarmError } from '../../nar/errors.ts';
import type { Sha256 } from '../../nar/hash.ts';
import type { NarInfo } from '../../nar/narinfo.ts';
import type { PublicKey } from '../../nar/signature.ts';
import { isTorrentInfoOf, type PackOffset, parseResolved, type Resolved } from '../../parts/resolved.ts';
import { type PeerAddress, printPeer } from '../../swarm/address/peer-address.ts';
import type { Torrent } from '../../swarm/torrent/torrent.ts';
import type { Logger } from '../../web/log.ts';
import type { ClientLimits } from '../config.ts';
import type { ClientState } from '../state/state.ts';
import { isWithin } from '../waiting.ts';
import type { Claim } from './catalog-claim.ts';
import { CatalogQuestions, type Whereabouts } from './catalog-questions.ts';
import { IdleWork } from './idle-work.ts';

/** Answers kept in memory: 2 KiB each, and 5 KiB more were each to name 50 peers that no other names. */
const answersMax = 10_000;

/** Lists of peers that answers share: a catalog names the same few for most NAR files. */
const peerListsMax = 256;

/** Made once: an abort without a reason makes an exception with a stack each time. */
const answered = new NarswarmError('aborted', 'it need not be waited for any more');

/** Known to nobody, or not to be had. */
const nowhere: Whereabouts = { peers: [] };

export interface Found {
  readonly torrent: Torrent;
  readonly peers: readonly PeerAddress[];
  /** The same bytes as a part of a pack, which those peers may have. */
  readonly pack?: PackOffset;
}

interface Answer {
  readonly peers: readonly PeerAddress[];
  readonly pack: PackOffset | undefined;
  /** Of each catalog at most one, the last one first. */
  readonly claims: readonly Claim[];
  /** When, by the clock. */
  readonly at: number;
}

export interface CatalogsOptions {
  catalogs: string[];
  /** Those that are trusted at this moment. */
  keys(): readonly PublicKey[];
  state: ClientState;
  limits: ClientLimits;
  logger: Logger;
  clock: () => number;
  /** There is nothing to go on with but the catalogs: they are waited for, and asked again at once after a failure. */
  patient: boolean;
  /** A NAR file is said to be in a pack, which these peers may have. */
  onPack?(pack: PackOffset, peers: readonly PeerAddress[]): void;
}

export class Catalogs {
  readonly #catalogs: CatalogQuestions[];
  readonly #keys: () => readonly PublicKey[];
  readonly #state: ClientState;
  readonly #limits: ClientLimits;
  readonly #clock: () => number;
  /** By FileHash; the least recently asked for goes first. */
  readonly #answers = new Map<Sha256, Answer>();
  readonly #asking = new Map<Sha256, Promise<void>>();
  readonly #peerLists = new Map<string, readonly PeerAddress[]>();
  readonly #onPack: CatalogsOptions['onPack'];
  readonly #closing = new AbortController();
  readonly #idle: IdleWork;

  constructor(options: CatalogsOptions) {
    this.#onPack = options.onPack;
    this.#keys = options.keys;
    this.#state = options.state;
    this.#limits = options.limits;
    this.#clock = options.clock;
    this.#idle = new IdleWork({ quietMs: options.limits.catalogQuietMs, most: answersMax });
    const { signal } = this.#closing;
    const keep = (resolved: Resolved): void => this.#keep(resolved);
    this.#catalogs = options.catalogs.map((url) => new CatalogQuestions({ ...options, url, signal, keep }));
  }

  /** Looks a NAR file up for later. Never fails and never waits. */
  prefetch(fileHash: Sha256): void {
    this.#idle.touch();
    if (this.awake && !this.#isFresh(fileHash)) void this.#ask(fileHash);
  }

  /** Whether any of them would be asked now. */
  get awake(): boolean {
    return this.#catalogs.some(({ resting }) => !resting);
  }

  /** Whether an answer about it is still to come. */
  isAsking(fileHash: Sha256): boolean {
    return this.#asking.has(fileHash);
  }

  /** The pack that a NAR file is said to be in. */
  packOf(fileHash: Sha256): PackOffset | undefined {
    return this.#answers.get(fileHash)?.pack;
  }

  /**
   * Where a NAR file is said to be; `undefined` while nobody has said anything. Nothing of it was verified: for whoever can do without the
   * torrent. Never waits.
   */
  place(fileHash: Sha256): Pick<Whereabouts, 'peers' | 'pack'> | undefined {
    this.#idle.touch();
    return this.#answers.get(fileHash);
  }

  /**
   * The torrent of the narinfo's NAR file, and peers that may have it; `undefined` when no catalog knows it.
   * Takes at most `budgetMs`; a torrent found before is given, without peers, also when no catalog answers.
   */
  async find(narInfo: NarInfo, budgetMs: number, signal: AbortSignal): Promise<Found | undefined> {
    const { fileHash } = narInfo;
    if (fileHash === undefined || this.#catalogs.length === 0) return undefined;
    if (!this.#isFresh(fileHash)) {
      const timer = new AbortController();
      const timeout = delay(budgetMs, undefined, { signal: AbortSignal.any([signal, timer.signal]) });
      await Promise.race([this.#ask(fileHash), timeout.catch(() => undefined)]);
      timer.abort(answered);
    }
    return this.known(narInfo);
  }

  /** What `find` would give if no catalog were asked. Never waits. */
  known(narInfo: NarInfo): Found | undefined {
    const { fileHash } = narInfo;
    this.#idle.touch();
    const torrent = this.#torrentOf(narInfo);
    if (fileHash === undefined || torrent === undefined) return undefined;
    const { peers = [], pack } = this.#answers.get(fileHash) ?? {};
    return { torrent, peers, ...(pack && { pack }) };
  }

  /** Forgets a torrent that turned out to be of other bytes than its FileHash says. */
  distrust(fileHash: Sha256): void {
    this.#state.dropTorrent(fileHash);
    // No peers and fresh: it is not asked for again at once.
    this.#answers.delete(fileHash);
    this.#remember(fileHash, nowhere);
  }

  /** Forgets that a NAR file is in a pack: what was there were other bytes. */
  distrustPack(fileHash: Sha256): void {
    const answer = this.#answers.get(fileHash);
    if (answer !== undefined) this.#answers.set(fileHash, { ...answer, pack: undefined });
  }

  status(): { url: string; state: string; requests: number; refusedLines: number }[] {
    return this.#catalogs.map((catalog) => catalog.status());
  }

  /** Breaks off what is being asked. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#idle.close();
    await Promise.allSettled(this.#asking.values());
  }

  #isFresh(fileHash: Sha256): boolean {
    const answer = this.#answers.get(fileHash);
    return answer !== undefined && isWithin(this.#clock() - answer.at, this.#limits.peersFreshMs);
  }

  /** Resolves when the first catalog that knows the file has answered, or all have. */
  #ask(fileHash: Sha256): Promise<void> {
    const running = this.#asking.get(fileHash);
    if (running !== undefined) return running;
    const asking = this.#askAll(fileHash).finally(() => this.#asking.delete(fileHash));
    this.#asking.set(fileHash, asking);
    return asking;
  }

  async #askAll(fileHash: Sha256): Promise<void> {
    if (this.#closing.signal.aborted) return;
    let open = this.#catalogs.length;
    if (open === 0) return;
    let failures = 0;
    await new Promise<void>((resolve) => {
      for (const catalog of this.#catalogs) {
        void catalog.resolve(fileHash).then((answer) => {
          open--;
          if (answer === 'failed') failures++;
          else if (answer !== 'absent') {
            this.#remember(fileHash, answer);
            resolve();
          }
          if (open > 0) return;
          // Only when all of them said so is it known that nobody has it.
          if (failures === 0 && !this.#isFresh(fileHash)) this.#remember(fileHash, nowhere);
          resolve();
        });
      }
    });
  }

  #remember(fileHash: Sha256, { peers, pack, claim }: Whereabouts): void {
    const other = this.#isFresh(fileHash) ? this.#answers.get(fileHash) : undefined;
    const others = other?.claims.filter(({ url }) => url !== claim?.url) ?? [];
    const answer = {
      peers: this.#merged(peers, other?.peers),
      pack: pack ?? other?.pack,
      claims: claim === undefined ? others : [claim, ...others],
      at: this.#clock(),
    };
    this.#answers.delete(fileHash);
    this.#answers.set(fileHash, answer);
    if (claim !== undefined) this.#idle.add(() => this.#check(fileHash, claim));
    if (answer.pack !== undefined) this.#onPack?.(answer.pack, answer.peers);
    const oldest = this.#answers.keys().next();
    if (this.#answers.size > answersMax && !oldest.done) this.#answers.delete(oldest.value);
  }

  /** The torrent of a claim. One that is refused takes what it said with it. */
  #check(fileHash: Sha256, claim: Claim): ReturnType<Claim['resolved']> {
    const resolved = claim.resolved(this.#keys(), !this.#isFresh(fileHash));
    const answer = this.#answers.get(fileHash);
    if (resolved !== undefined || answer === undefined) return resolved;
    const claims = answer.claims.filter((each) => each !== claim);
    const none = claims.length === 0;
    this.#answers.set(fileHash, { ...answer, claims, ...(none && { peers: [], pack: undefined }) });
    return undefined;
  }

  /** The same list for the same peers. */
  #merged(peers: readonly PeerAddress[], others: readonly PeerAddress[] = []): readonly PeerAddress[] {
    const all = new Map([...peers, ...others].map((peer) => [printPeer(peer), peer]));
    const key = [...all.keys()].join(' ');
    const list = this.#peerLists.get(key) ?? [...all.values()];
    if (this.#peerLists.size >= peerListsMax) this.#peerLists.clear();
    this.#peerLists.set(key, list);
    return list;
  }

  #keep({ torrentInfo, text, info }: Resolved): void {
    if (this.#closing.signal.aborted) return;
    const { fileHash, infoHash } = torrentInfo;
    this.#state.putTorrent({ fileHash, infoHash, torrentInfo: text, info });
  }

  /** What is stored is verified again: the keys may be others than when it was. */
  #torrentOf(narInfo: NarInfo): Torrent | undefined {
    const { fileHash } = narInfo;
    if (fileHash === undefined) return undefined;
    for (const claim of this.#answers.get(fileHash)?.claims ?? []) {
      const resolved = this.#check(fileHash, claim);
      if (resolved !== undefined && isTorrentInfoOf(resolved.torrentInfo, narInfo)) return resolved.torrent;
    }
    const stored = this.#state.torrent(fileHash);
    if (stored === undefined) return undefined;
    try {
      const { torrent, torrentInfo } = parseResolved(stored.torrentInfo, stored.info, this.#keys());
      return isTorrentInfoOf(torrentInfo, narInfo) ? torrent : undefined;
    } catch {
      this.#state.dropTorrent(fileHash);
      return undefined;
    }
  }
}
