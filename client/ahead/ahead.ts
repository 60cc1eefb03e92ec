/**
 * What Nix will ask for next is prepared before it does: torrents and peers are asked for with the narinfos, connections to packs made, and once
 * Nix fetches, small NAR files are fetched before it asks for them.
 *
 * Nix opens 25 connections and asks for one NAR file over each, so that over a long road small files come no faster than 25 in a
 * round trip. What is fetched ahead is ready when it asks. Only narinfos that Nix asked for itself are followed, and nothing is fetched
 * before its first NAR file: who only looks, fetches nothing.
 */

import type { Sha256 } from '../../nar/hash.ts';
import { type StoreHash, storeHashOf } from '../../nar/store-path.ts';
import type { PackConnections } from '../../swarm/fetch/pack-connections.ts';
import type { Catalogs } from '../asking/catalog-client.ts';
import type { ClientLimits } from '../config.ts';
import type { NarReader } from '../fetch/nar-job.ts';
import type { Views } from '../narinfo/views.ts';
import type { GivenNarInfo } from '../state/state.ts';
import { type Awaited, aheadOrder } from './ahead-order.ts';
import { AheadWalk } from './ahead-walk.ts';

export interface AheadOptions {
  views: Pick<Views, 'narInfo'>;
  catalogs: Pick<Catalogs, 'prefetch' | 'packOf' | 'awake'>;
  packs: Pick<PackConnections, 'isWarm'>;
  /** Whether a NAR file need not be fetched: it is here, or being fetched, or must not be used. */
  isHere(fileHash: Sha256): boolean;
  /** Whether an upstream can be asked for what no connected peer has. */
  hasHttp(): boolean;
  /** Fetches that run, and files that are being put away. */
  load(): number;
  /** Starts a fetch as if Nix had asked. Throws when there are too many. */
  fetch(given: GivenNarInfo, fileHash: Sha256): NarReader;
  limits: ClientLimits;
  clock: () => number;
}

export interface AheadStatus {
  /** NAR files whose narinfo was asked for lately, and that were not asked for yet. */
  noted: number;
  /** NAR files fetched before they were asked for, those under way included; of these, the ones that Nix then asked for. */
  fetched: number;
  used: number;
  /** Of the ones that it did not. They are kept like all others. */
  unusedBytes: number;
  /** Under way, or here and not asked for yet. */
  waitingBytes: number;
}

/** Its references are read when there is something to put in order: Nix may ask for thousands of narinfos. */
class Noted implements Awaited {
  readonly given: GivenNarInfo;
  readonly fileHash: Sha256;
  readonly sizeBytes: number;
  readonly notedMs: number;
  #references: readonly StoreHash[] | undefined;

  constructor(given: GivenNarInfo, fileHash: Sha256, sizeBytes: number, notedMs: number) {
    this.given = given;
    this.fileHash = fileHash;
    this.sizeBytes = sizeBytes;
    this.notedMs = notedMs;
  }

  get storeHash(): StoreHash {
    return this.given.storeHash;
  }

  get references(): readonly StoreHash[] {
    this.#references ??= this.given.narInfo.references.map(storeHashOf);
    return this.#references;
  }
}

interface Fetched {
  /** While it is under way, and as long after that as it is to stay in memory. */
  reader: NarReader | undefined;
  readonly sizeBytes: number;
}

export class Ahead {
  readonly #options: AheadOptions;
  readonly #walk: AheadWalk;
  readonly #closing = new AbortController();
  /** By FileHash, the one that was asked for first in front. */
  readonly #noted = new Map<Sha256, Noted>();
  /** Of their narinfos. */
  #notedCharacters = 0;
  /**
   * What connected peers have, and what they do not; what is fetched next is at the end. Made anew now and then: more was asked for, and more
   * peers are connected.
   */
  #peersLine: Noted[] = [];
  #httpLine: Noted[] = [];
  #lineMs = Number.NEGATIVE_INFINITY;
  /** Some are in neither line yet: for them the lines are made anew also when nothing else happens. */
  #someWait = false;
  #again: NodeJS.Timeout | undefined;
  /** Fetched or being fetched, and not asked for by Nix. */
  readonly #fetched = new Map<Sha256, Fetched>();
  /** Those of them that are whole and in memory, the oldest first. */
  readonly #open = new Set<Fetched>();
  #running = 0;
  /** Those of them that no connected peer had. */
  #runningHttp = 0;
  #waitingBytes = 0;
  /** How many may run at once: grows as they succeed, so that what does not come is noticed early. */
  #width: number;
  /** When Nix last asked for anything, and for a NAR file. */
  #askedMs = Number.NEGATIVE_INFINITY;
  #fetchesMs = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  readonly #counts = { fetched: 0, used: 0, unusedBytes: 0 };

  constructor(options: AheadOptions) {
    const { views, catalogs, limits } = options;
    this.#options = options;
    this.#width = limits.aheadFirstFetches;
    const pathsMax = limits.aheadWalkPaths;
    this.#walk = new AheadWalk({ views, pathsMax, onPath: (fileHash) => catalogs.prefetch(fileHash) });
  }

  /** Nix is given a narinfo. */
  noteNarInfo(given: GivenNarInfo): void {
    const { clock, catalogs, limits } = this.#options;
    const { narInfo, storeHash } = given;
    const nowMs = clock();
    if (nowMs - this.#askedMs > limits.aheadQuietMs) this.#walk.begin();
    this.#askedMs = nowMs;
    this.#walk.from(storeHash, () => narInfo.references.map(storeHashOf));
    const { fileHash, fileSize: sizeBytes } = narInfo;
    if (fileHash === undefined) return;
    catalogs.prefetch(fileHash);
    if (sizeBytes === undefined) return;
    this.#forget(fileHash);
    this.#noted.set(fileHash, new Noted(given, fileHash, sizeBytes, nowMs));
    this.#notedCharacters += narInfo.text.length;
    while (this.#noted.size > limits.aheadNoted || this.#notedCharacters > limits.aheadNotedCharacters) {
      const oldest = this.#noted.keys().next();
      if (oldest.done) break;
      this.#forget(oldest.value);
    }
  }

  /** Nix asks for a NAR file, and whatever was fetched of it has been taken over. */
  noteNar(fileHash: Sha256): void {
    const nowMs = this.#options.clock();
    this.#askedMs = nowMs;
    this.#fetchesMs = nowMs;
    this.#forget(fileHash);
    const fetched = this.#fetched.get(fileHash);
    if (fetched !== undefined) {
      this.#counts.used++;
      this.#letGo(fileHash, fetched);
    }
    this.#fetchMore();
  }

  status(): AheadStatus {
    return { noted: this.#noted.size, ...this.#counts, waitingBytes: this.#waitingBytes };
  }

  /** Lets go of everything. May be called twice. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#letAllGo();
    await this.#walk.close();
  }

  #forget(fileHash: Sha256): void {
    const noted = this.#noted.get(fileHash);
    if (noted === undefined) return;
    this.#notedCharacters -= noted.given.narInfo.text.length;
    this.#noted.delete(fileHash);
  }

  #fetchMore(): void {
    const { clock, limits } = this.#options;
    if (this.#closing.signal.aborted || clock() - this.#fetchesMs > limits.aheadQuietMs) return;
    while (
      this.#running < this.#width &&
      this.#waitingBytes < limits.aheadBytes &&
      this.#options.load() < limits.aheadLoad
    ) {
      const next = this.#next();
      if (next === undefined) {
        if (this.#someWait) this.#again ??= setTimeout(() => this.#goOn(), limits.aheadLineMs + 1);
        return;
      }
      this.#fetch(next);
    }
  }

  #goOn(): void {
    this.#again = undefined;
    this.#fetchMore();
  }

  /** What a connected peer has comes first, as it spares the upstreams. */
  #next(): { noted: Noted; http: boolean } | undefined {
    const { hasHttp, limits, clock } = this.#options;
    const nowMs = clock();
    if (nowMs - this.#lineMs > limits.aheadLineMs) this.#makeLines(nowMs);
    const noted = this.#takeFrom(this.#peersLine);
    if (noted !== undefined) return { noted, http: false };
    if (this.#runningHttp >= limits.aheadHttpFetches || !hasHttp()) return undefined;
    const other = this.#takeFrom(this.#httpLine);
    return other && { noted: other, http: true };
  }

  #takeFrom(line: Noted[]): Noted | undefined {
    for (let next = line.pop(); next !== undefined; next = line.pop()) {
      const { fileHash } = next;
      if (this.#noted.get(fileHash) !== next) continue;
      this.#forget(fileHash);
      if (!this.#options.isHere(fileHash)) return next;
    }
    return undefined;
  }

  #makeLines(nowMs: number): void {
    this.#lineMs = nowMs;
    const { catalogs, packs, limits } = this.#options;
    for (const [fileHash, { notedMs }] of this.#noted) {
      if (nowMs - notedMs <= limits.aheadNotedMs) break;
      this.#forget(fileHash);
    }
    this.#peersLine = [];
    this.#httpLine = [];
    this.#someWait = false;
    for (const noted of aheadOrder([...this.#noted.values()]).reverse()) {
      if (noted.sizeBytes > limits.aheadFileBytes) continue;
      const pack = catalogs.packOf(noted.fileHash);
      if (pack !== undefined && packs.isWarm(pack.infoHash)) this.#peersLine.push(noted);
      // A catalog may still name somebody, or somebody be on the way.
      else if (!catalogs.awake || nowMs - noted.notedMs > limits.aheadCatalogMs) this.#httpLine.push(noted);
      else this.#someWait = true;
    }
  }

  #fetch({ noted: { given, fileHash, sizeBytes }, http }: { noted: Noted; http: boolean }): void {
    let reader: NarReader;
    try {
      reader = this.#options.fetch(given, fileHash);
    } catch {
      // There are too many fetches, or the client is stopping. Nix will ask, and be told.
      return;
    }
    const fetched: Fetched = { reader, sizeBytes };
    this.#fetched.set(fileHash, fetched);
    this.#counts.fetched++;
    this.#running++;
    if (http) this.#runningHttp++;
    this.#waitingBytes += sizeBytes;
    this.#timer ??= setInterval(() => this.#look(), this.#options.limits.aheadQuietMs / 2);
    void this.#follow(fetched, reader, http);
  }

  /** Until it has ended, well or not. Nix asks for what failed, and is told why. */
  async #follow(fetched: Fetched, reader: NarReader, http: boolean): Promise<void> {
    const { limits } = this.#options;
    try {
      await reader.waitFor(fetched.sizeBytes, this.#closing.signal);
      if (this.#width < limits.aheadFetches) this.#width++;
      if (fetched.reader !== undefined) this.#open.add(fetched);
      // The others are read from the disk.
      const [oldest] = this.#open;
      if (this.#open.size > limits.aheadOpen && oldest !== undefined) this.#close(oldest);
    } catch {
      this.#width = Math.max(1, Math.floor(this.#width / 2));
    }
    this.#running--;
    if (http) this.#runningHttp--;
    this.#fetchMore();
  }

  /** When Nix stops, so does this. */
  #look(): void {
    const { clock, limits } = this.#options;
    if (clock() - this.#fetchesMs <= limits.aheadQuietMs) return;
    this.#letAllGo();
    this.#width = limits.aheadFirstFetches;
  }

  #letAllGo(): void {
    for (const [fileHash, fetched] of this.#fetched) {
      this.#counts.unusedBytes += fetched.sizeBytes;
      this.#letGo(fileHash, fetched);
    }
    clearInterval(this.#timer);
    clearTimeout(this.#again);
    this.#timer = undefined;
    this.#again = undefined;
  }

  #letGo(fileHash: Sha256, fetched: Fetched): void {
    this.#fetched.delete(fileHash);
    this.#waitingBytes -= fetched.sizeBytes;
    this.#close(fetched);
  }

  #close(fetched: Fetched): void {
    this.#open.delete(fetched);
    fetched.reader?.close();
    fetched.reader = undefined;
  }
}
