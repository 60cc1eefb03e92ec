/** Gets one NAR file whole: a race of its sources, and another one from the first byte when all that came was wrong. Tells how it went. */

import { isNarswarmError, type NarswarmError } from '../nar/errors.ts';
import type { Sha256 } from '../nar/hash.ts';
import type { NarFileWriter } from '../store/nar-file-store.ts';
import type { HashThread } from '../swarm/hash-thread.ts';
import type { Torrent } from '../swarm/torrent.ts';
import type { Logger } from '../web/log.ts';
import { Assembly } from './assembly.ts';
import type { BadSources } from './bad-sources.ts';
import type { ClientLimits } from './config.ts';
import type { Counts } from './counts.ts';
import type { NarPlan } from './nar-plan.ts';
import { Race } from './race.ts';
import { expectedMs, type SourcePasts } from './source-past.ts';
import { type NarStory, type StoryLeg, storyLegsMax } from './story.ts';

/** Beginnings from the first byte, for when everything so far was wrong and nothing of it was released. */
const beginningsMax = 4;

export interface NarFetchOptions {
  /** Hashes what is large. */
  hashes: HashThread | undefined;
  fileHash: Sha256;
  /** FileSize of the narinfo. */
  sizeBytes: number | undefined;
  /** It is fetched before Nix asks for it. */
  ahead: boolean;
  limits: ClientLimits;
  logger: Logger;
  counts: Counts;
  bad: BadSources;
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

  constructor(options: NarFetchOptions) {
    this.#options = options;
    this.#sizeBytes = options.sizeBytes;
  }

  /** Size of the whole file, once it is known: from the narinfo, the torrent, or what the first source says. */
  get sizeBytes(): number | undefined {
    return this.#sizeBytes;
  }

  /** What there is so far; another one when everything so far was wrong. */
  get assembly(): Assembly | undefined {
    return this.#assembly;
  }

  /** Resolves when the file is whole and its FileHash right. Throws when no source could give it. May be called once. */
  async run(): Promise<void> {
    const { fileHash, counts, bad, plan: findPlan, distrustTorrent } = this.#options;
    let trustTorrent = true;
    for (let beginning = 1; ; beginning++) {
      const plan = await findPlan(trustTorrent);
      this.#http ??= plan.sources.find(({ kind }) => kind === 'http')?.name;
      this.#sizeBytes ??= plan.torrent?.length;
      const assembly = await this.#begin(plan.torrent);
      const { failure, wrong, torrent } = await this.#race(plan, assembly, beginning > 1);
      if (failure === undefined) {
        // The torrent was right, so whoever gave other bytes was not.
        for (const source of wrong) bad.note(fileHash, source);
        return;
      }
      const wholeIsWrong = isNarswarmError(failure, 'file-hash-mismatch', 'file-size-mismatch');
      if (wholeIsWrong) {
        counts.wrong++;
        this.#logWrong([...wrong], torrent, failure);
      }
      // With a torrent the sources gave what it asked for: then it is the torrent that is wrong.
      if (torrent === undefined) for (const source of wrong) bad.note(fileHash, source);
      else if (wholeIsWrong) distrustTorrent();
      if (assembly.released > 0 || wrong.size === 0 || beginning >= beginningsMax) throw failure;
      // Nothing left the house, so it can begin again.
      trustTorrent = torrent === undefined && trustTorrent;
      this.#sizeBytes = this.#options.sizeBytes;
    }
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
    const { createWriter, fileHash } = this.#options;
    await this.#assembly?.writer.abort();
    const writer = await createWriter();
    const assembly = new Assembly({
      writer,
      fileHash,
      sizeBytes: this.#sizeBytes,
      checked: torrent !== undefined,
      hashes: this.#options.hashes,
    });
    this.fetched.swarm = 0;
    this.fetched.http = 0;
    this.#assembly = assembly;
    return assembly;
  }

  async #race(plan: NarPlan, assembly: Assembly, again: boolean) {
    const { counts, onProgress } = this.#options;
    const race = new Race({
      ...this.#options,
      plan,
      assembly,
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
