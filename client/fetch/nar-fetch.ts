/**
 * Gets one NAR file whole: a race of its sources, and another one when something that came was wrong, from where it was not released yet.
 * Tells how it went.
 */

import { isNarswarmError, type NarswarmError } from '../../nar/errors.ts';
import type { Sha256 } from '../../nar/hash.ts';
import type { NarFileWriter } from '../../store/nar-file-store.ts';
import type { HashThread } from '../../swarm/fetch/hash-thread.ts';
import type { Torrent } from '../../swarm/torrent/torrent.ts';
import type { Logger } from '../../web/log.ts';
import type { ClientLimits } from '../config.ts';
import type { Counts } from '../counts.ts';
import { Assembly } from '../race/assembly.ts';
import type { BadSources } from '../race/bad-sources.ts';
import type { NarPlan } from '../race/nar-plan.ts';
import { Race } from '../race/race.ts';
import { expectedMs, type SourcePasts } from '../race/source-past.ts';
import { type NarStory, type StoryLeg, storyLegsMax } from '../story.ts';

/** Races for one NAR file: of all sources, without those that the torrent contradicts, without the torrent, and one more. */
const beginningsMax = 4;

/** Of what was released, read at once when a race begins after it. */
const copyBytes = 1024 * 1024;

const noSuspects: ReadonlySet<string> = new Set();

/** What any compression can add to a NAR: bzip2 adds a hundredth to what it cannot make smaller, and all of them a head. */
const addedShare = 1 / 8;
const addedBytes = 64 * 1024;

export interface NarFetchOptions {
  /** Hashes what is large. */
  hashes: HashThread | undefined;
  fileHash: Sha256;
  /** FileSize of the narinfo. */
  sizeBytes: number | undefined;
  /** NarSize of the narinfo. */
  narSizeBytes: number;
  /** It is fetched before Nix asks for it. */
  ahead: boolean;
  limits: ClientLimits;
  logger: Logger;
  counts: Counts;
  bad: BadSources;
  hung: BadSources;
  pasts: SourcePasts;
  signal: AbortSignal;
  createWriter(): Promise<NarFileWriter>;
  /** Finds torrent and sources; `trustTorrent` is false when the torrent turned out to be wrong. */
  plan(trustTorrent: boolean): Promise<NarPlan>;
  /** The torrent is not of these bytes. */
  distrustTorrent(): void;
  /** More was released. */
  onProgress(): void;
}

/** What a fetch adds to a story. */
export type FetchStory = Pick<NarStory, 'sizeBytes' | 'tookMs' | 'legs' | 'httpMs'>;

export class NarFetch {
  /** Bytes of what there is so far, by where they came from. */
  readonly fetched = { swarm: 0, http: 0 };
  readonly #options: NarFetchOptions;
  readonly #startMs = performance.now();
  readonly #legs: StoryLeg[] = [];
  #http: string | undefined;
  #completeMs: number | undefined;
  #sizeBytes: number | undefined;
  #assembly: Assembly | undefined;
  /** Those before it, which readers may be reading from. */
  readonly #former: Assembly[] = [];

  constructor(options: NarFetchOptions) {
    this.#options = options;
    this.#sizeBytes = options.sizeBytes;
  }

  /** Size of the whole file, once it is known: from the narinfo, the torrent, or what the first source says. */
  get sizeBytes(): number | undefined {
    return this.#sizeBytes;
  }

  /** What there is so far; another one, with all that was released, when something was wrong. */
  get assembly(): Assembly | undefined {
    return this.#assembly;
  }

  /** Resolves when the file is whole and its FileHash right. Throws when no source could give it. May be called once. */
  async run(): Promise<void> {
    const { fileHash, counts, bad, plan: findPlan, distrustTorrent } = this.#options;
    const suspects = new Set<string>();
    let trustTorrent = true;
    for (let beginning = 1; ; beginning++) {
      const plan = await findPlan(trustTorrent);
      this.#http ??= plan.sources.find(({ kind }) => kind === 'http')?.name;
      this.#sizeBytes ??= plan.torrent?.length;
      const assembly = await this.#begin(plan.torrent);
      const carriedBytes = assembly.appended;
      // Torrent or source is wrong, and which of them FileHash tells.
      if (!trustTorrent && suspects.size > 0) assembly.hold();
      const without = trustTorrent ? suspects : noSuspects;
      const result = await this.#race(plan, assembly, beginning > 1, without);
      const { failure, wrong, torrent, startIsWrong } = result;
      if (failure === undefined) {
        // The torrent was right, so whoever gave other bytes was not; or it was the other way round.
        for (const source of [...wrong, ...without]) bad.note(fileHash, source);
        if (without.size > 0) counts.wrong++;
        if (!trustTorrent && suspects.size > 0) distrustTorrent();
        return;
      }
      const wholeIsWrong = isNarswarmError(failure, 'file-hash-mismatch', 'file-size-mismatch');
      if (wholeIsWrong) counts.wrong++;
      if (wholeIsWrong || startIsWrong) this.#logWrong([...wrong], torrent, failure);
      // With a torrent the sources gave what it asked for: then it is the torrent that is wrong. Whoever went on from the bytes of others may be right.
      if (torrent !== undefined && wholeIsWrong) distrustTorrent();
      if (torrent === undefined && carriedBytes === 0) for (const source of wrong) bad.note(fileHash, source);
      const known = suspects.size;
      if (startIsWrong) for (const source of wrong) suspects.add(source);
      // What was released before may be wrong, too.
      const inDoubt = assembly.released === 0 || torrent === undefined || suspects.size > 0;
      if (wrong.size + suspects.size === 0 || !inDoubt || beginning >= beginningsMax) throw failure;
      trustTorrent = suspects.size > known || (torrent === undefined && trustTorrent);
      this.#sizeBytes = this.#options.sizeBytes;
    }
  }

  /** Nobody reads any more. */
  async close(): Promise<void> {
    for (const { writer } of this.#former) await writer.abort();
    await this.#assembly?.writer.abort();
  }

  story(): FetchStory {
    const tookMs = (this.#completeMs ?? performance.now()) - this.#startMs;
    const httpMs = this.#httpMs();
    return {
      sizeBytes: this.#sizeBytes,
      tookMs: Math.round(tookMs * 10) / 10,
      legs: this.#legs.slice(0, storyLegsMax),
      ...(httpMs !== undefined && { httpMs: Math.round(httpMs * 10) / 10 }),
    };
  }

  /** Measured when one leg over HTTP gave all of it. */
  #httpMs(): number | undefined {
    const last = this.#legs.at(-1);
    const whole = this.#legs.find(({ kind, usedBytes }) => kind === 'http' && usedBytes === this.#sizeBytes);
    if (whole !== undefined && last !== undefined) return whole.endedMs - whole.startedMs;
    if (this.#http === undefined || this.#sizeBytes === undefined) return undefined;
    return expectedMs(this.#sizeBytes, this.#options.pasts.of(this.#http).view());
  }

  async #begin(torrent: Torrent | undefined): Promise<Assembly> {
    const { createWriter, fileHash, narSizeBytes } = this.#options;
    const former = this.#assembly;
    const released = former?.released ?? 0;
    if (released === 0) await former?.writer.abort();
    else if (former !== undefined) this.#former.push(former);
    const writer = await createWriter();
    const assembly = new Assembly({
      writer,
      fileHash,
      sizeBytes: this.#sizeBytes,
      // NarSize is signed, FileSize is not: nobody fills the disk with a file that does not end.
      mostBytes: Math.floor(narSizeBytes * (1 + addedShare)) + addedBytes,
      checked: torrent !== undefined && released === 0,
      hashes: this.#options.hashes,
    });
    while (former !== undefined && assembly.appended < released) {
      const at = assembly.appended;
      await assembly.append(await former.readAppended(at, Math.min(copyBytes, released - at)));
    }
    if (released > 0) assembly.rightTo(released);
    assembly.letGo();
    // What comes before a torrent comes over HTTP.
    this.fetched.http = Math.min(released, this.fetched.http);
    this.fetched.swarm = released - this.fetched.http;
    this.#assembly = assembly;
    return assembly;
  }

  async #race(plan: NarPlan, assembly: Assembly, again: boolean, suspects: ReadonlySet<string>) {
    const { counts, onProgress } = this.#options;
    const race = new Race({
      ...this.#options,
      plan,
      assembly,
      suspects,
      sizeBytes: this.#sizeBytes,
      ...(again && { why: 'again' }),
      onSize: (sizeBytes) => {
        this.#sizeBytes ??= sizeBytes;
      },
      onUsed: (kind, bytes) => {
        this.fetched[kind] += bytes;
        counts.bytes[kind] += bytes;
      },
      onProgress: () => {
        if (assembly.complete) this.#completeMs ??= performance.now();
        onProgress();
      },
      onWrong: (source, error) => {
        counts.wrong++;
        this.#logWrong([source], plan.torrent, error);
      },
      onWrongTorrent: this.#options.distrustTorrent,
    });
    try {
      return await race.run();
    } finally {
      const nowMs = performance.now();
      for (const leg of race.legs) {
        const story = leg.story(this.#startMs, nowMs);
        this.#legs.push(story);
        counts.unusedBytes[story.kind] += story.unusedBytes;
      }
    }
  }

  #logWrong(sources: string[], torrent: Torrent | undefined, error: NarswarmError): void {
    const { logger, fileHash } = this.#options;
    logger.warn('nar-wrong', { fileHash, sources, torrent: torrent?.infoHash, error });
  }
}
