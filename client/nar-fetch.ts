/** Gets one NAR file whole: from one source after the other into an assembly, each going on where the last one stopped. */

import { setTimeout as delay } from 'node:timers/promises';
import { isNarswarmError, NarswarmError } from '../nar/errors.ts';
import type { Sha256 } from '../nar/hash.ts';
import { PieceChecker } from '../parts/piece-checker.ts';
import type { NarFileWriter } from '../store/nar-file-store.ts';
import type { Torrent } from '../swarm/torrent.ts';
import type { Logger } from '../web/log.ts';
import { Assembly } from './assembly.ts';
import type { BadSources } from './bad-sources.ts';
import type { ClientLimits } from './config.ts';
import type { Counts } from './counts.ts';
import type { NarSource } from './nar-sources.ts';
import { SourcePlan } from './source-plan.ts';
import { aborted } from './waiting.ts';

/** Before a source that failed is tried again: longer each time. */
const retryDelayMs = 100;

/** Beginnings from the first byte, for when everything so far was wrong and nothing of it was released. */
const beginningsMax = 4;

/** What a fetch goes by, found out before it starts. */
export interface NarPlan {
  /** Every byte is compared with it before it is released. */
  torrent: Torrent | undefined;
  sources: NarSource[];
  /** Tried when the others have failed. */
  lastResorts: NarSource[];
}

export interface NarFetchOptions {
  fileHash: Sha256;
  /** FileSize of the narinfo. */
  sizeBytes: number | undefined;
  limits: ClientLimits;
  logger: Logger;
  counts: Counts;
  bad: BadSources;
  signal: AbortSignal;
  createWriter(): Promise<NarFileWriter>;
  /** Finds torrent and sources; `trustTorrent` is false when the torrent turned out to be wrong. */
  plan(trustTorrent: boolean): Promise<NarPlan>;
  /** The torrent is not of these bytes. */
  distrustTorrent(): void;
  /** More was released. */
  onProgress(): void;
}

export class NarFetch {
  readonly fetched = { swarm: 0, http: 0 };
  readonly #options: NarFetchOptions;
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
    const { fileHash, counts, bad, logger, plan: findPlan, distrustTorrent } = this.#options;
    let trustTorrent = true;
    for (let beginning = 1; ; beginning++) {
      const plan = await findPlan(trustTorrent);
      this.#sizeBytes ??= plan.torrent?.length;
      const assembly = await this.#begin(plan.torrent);
      const { failure, wrong } = await this.#fetchFrom(plan, assembly);
      if (failure === undefined) {
        // The torrent was right, so whoever gave other bytes was not.
        for (const source of wrong) bad.note(fileHash, source);
        return;
      }
      const wholeIsWrong = isNarswarmError(failure, 'file-hash-mismatch', 'file-size-mismatch');
      if (wrong.size > 0) {
        counts.wrong++;
        logger.warn('nar-wrong', {
          fileHash,
          sources: [...wrong],
          torrent: plan.torrent?.infoHash,
          error: failure,
        });
      }
      // With a torrent the sources gave what it asked for: then it is the torrent that is wrong.
      if (plan.torrent === undefined) for (const source of wrong) bad.note(fileHash, source);
      else if (wholeIsWrong) distrustTorrent();
      if (assembly.released > 0 || wrong.size === 0 || beginning >= beginningsMax) throw failure;
      // Nothing left the house, so it can begin again.
      trustTorrent = plan.torrent === undefined && trustTorrent;
      this.#sizeBytes = this.#options.sizeBytes;
    }
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
    });
    this.#assembly = assembly;
    return assembly;
  }

  /** Until the file is complete or no source is left. `wrong` are the sources of bytes that did not belong there. */
  async #fetchFrom(
    plan: NarPlan,
    assembly: Assembly,
  ): Promise<{ failure: NarswarmError | undefined; wrong: Set<string> }> {
    const { fileHash, limits, logger, bad, signal } = this.#options;
    const usable = (source: NarSource): boolean => !bad.has(fileHash, source.name);
    const sources = new SourcePlan(plan.sources.filter(usable), plan.lastResorts.filter(usable), limits);
    const contributors = new Set<string>();
    const wrong = new Set<string>();
    let failure = new NarswarmError('upstream-failed', `nobody has ${fileHash}`);
    for (let next = sources.next(); next !== undefined; next = sources.next()) {
      const { source, failures } = next;
      const before = assembly.appended;
      try {
        if (failures > 0) await delay(retryDelayMs * failures, undefined, { signal });
        const has = await this.#take(source, plan.torrent, assembly, contributors);
        if (assembly.complete) return { failure: undefined, wrong };
        if (!has) sources.gone(source);
        else throw new NarswarmError('upstream-failed', `${source.name} ended too early`);
      } catch (error) {
        if (signal.aborted) throw aborted(signal);
        if (assembly.complete) return { failure: undefined, wrong };
        failure = asNarswarmError(error);
        logger.warn('source-failed', {
          fileHash,
          source: source.name,
          fromByte: assembly.appended,
          error: failure,
        });
        // A full disk is nobody's fault, and no other source helps.
        if (failure.code === 'store-failed') throw failure;
        if (failure.code === 'piece-mismatch') {
          wrong.add(source.name);
          source.spoilt?.();
          sources.gone(source);
        } else if (failure.code === 'file-size-mismatch' && assembly.appended === before) {
          // It said so beforehand, so nothing is spoilt: that cache has another file there.
          sources.gone(source);
        } else if (failure.code === 'file-hash-mismatch' || failure.code === 'file-size-mismatch') {
          return { failure, wrong: contributors.add(source.name) };
        } else {
          sources.failed(source, assembly.appended > before);
        }
      }
    }
    return { failure, wrong };
  }

  /** False when the source does not have the file; otherwise it gave what it would. */
  async #take(
    source: NarSource,
    torrent: Torrent | undefined,
    assembly: Assembly,
    contributors: Set<string>,
  ): Promise<boolean> {
    const { onProgress, signal } = this.#options;
    const opened = await source.open(assembly.appended, signal);
    if (opened === undefined) return false;
    this.#sizeBytes ??= opened.lengthBytes;
    const checker = torrent && new PieceChecker(torrent, assembly.appended);
    for await (const { bytes, checked } of opened.bytes) {
      // The end of an HTTP body is waited for, so that its connection can be used again; but nothing may follow.
      if (assembly.complete) break;
      if (source.kind === 'http') this.#count('http', bytes.length);
      for (const part of checked || checker === undefined ? [bytes] : checker.push(bytes)) {
        contributors.add(source.name);
        await assembly.append(part);
        if (source.kind === 'swarm') this.#count('swarm', part.length);
        onProgress();
      }
      if (assembly.complete && source.kind === 'swarm') break;
    }
    if (torrent === undefined && source.kind === 'http') {
      assembly.finish();
      onProgress();
    }
    return true;
  }

  #count(kind: 'swarm' | 'http', bytes: number): void {
    this.fetched[kind] += bytes;
    this.#options.counts.bytes[kind] += bytes;
  }
}

export function asNarswarmError(error: unknown): NarswarmError {
  if (error instanceof NarswarmError) return error;
  return new NarswarmError('upstream-failed', 'a source failed', { cause: error });
}
