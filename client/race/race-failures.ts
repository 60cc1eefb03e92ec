/** What follows from the failure of a leg: for its source, which is tried again or not, and for what is believed of it and of the torrent. */

import { NarswarmError } from '../../nar/errors.ts';
import type { LegReason } from '../story.ts';
import type { RaceOptions } from './nar-plan.ts';
import type { NarSource } from './nar-source.ts';
import type { Leg } from './race-leg.ts';
import type { SourcePlan } from './source-plan.ts';

export interface RaceFailuresOptions
  extends Pick<
    RaceOptions,
    'bad' | 'hung' | 'fileHash' | 'limits' | 'logger' | 'onWrong' | 'onWrongTorrent'
  > {
  sources: SourcePlan<NarSource>;
}

export class RaceFailures {
  /** Sources that gave other bytes than the torrent says. */
  readonly wrong = new Set<string>();
  readonly #options: RaceFailuresOptions;
  readonly #logged = new Set<string>();
  #last: NarswarmError | undefined;
  #fellBack = false;

  constructor(options: RaceFailuresOptions) {
    this.#options = options;
  }

  get last(): NarswarmError | undefined {
    return this.#last;
  }

  /** Why another one is asked now. */
  note(leg: Leg, error: NarswarmError, fromByte: number): LegReason {
    const { logger, fileHash, bad, sources, onWrong, onWrongTorrent } = this.#options;
    const { source } = leg;
    this.#last = error;
    if (!this.#logged.has(source.name)) {
      this.#logged.add(source.name);
      logger.warn('source-failed', { fileHash, source: source.name, fromByte, error });
    }
    // Of the disk: it says nothing of the source.
    if (error.code === 'store-failed') return 'failed';
    if (!['piece-mismatch', 'file-hash-mismatch', 'file-size-mismatch'].includes(error.code)) {
      const stalled = this.#stalled(leg, error);
      if (stalled) this.#options.hung.note(fileHash, source.name);
      // The next time would take as long again.
      if (stalled && leg.usedBytes === 0) sources.gone(source);
      else sources.failed(source, leg.usedBytes);
      return 'failed';
    }
    sources.gone(source);
    // One that says beforehand that its file is another one has spoilt nothing.
    if (leg.receivedBytes === 0) return 'failed';
    source.spoilt?.();
    onWrong(source.name, error);
    // Nothing was mixed with it, so it is known to be wrong; a torrent may itself be.
    if (leg.byTorrent) onWrongTorrent();
    else if (error.code === 'piece-mismatch') this.wrong.add(source.name);
    else bad.note(fileHash, source.name);
    return 'wrong';
  }

  /** Logs once why another source than the best is asked. */
  logFallback(to: NarSource, why: LegReason, from: Leg | undefined): void {
    const { logger, fileHash } = this.#options;
    const reasons: readonly LegReason[] = ['no-live-peer', 'late', 'slow', 'failed', 'absent', 'wrong'];
    if (this.#fellBack || !reasons.includes(why)) return;
    this.#fellBack = true;
    logger.info('nar-fallback', { fileHash, why, from: from?.source.name, to: to.name });
  }

  /** Nothing came for as long as it is waited for. */
  #stalled({ source, startedMs, receivedBytes }: Leg, { code }: NarswarmError): boolean {
    if (source.stalled !== undefined) return source.stalled();
    const { hung, fileHash, limits } = this.#options;
    const again = code === 'swarm-stalled' && hung.has(fileHash, source.name);
    return receivedBytes === 0 && (again || performance.now() - startedMs >= limits.swarmPatienceMs);
  }
}

export function asNarswarmError(error: unknown): NarswarmError {
  if (error instanceof NarswarmError) return error;
  return new NarswarmError('upstream-failed', 'a source failed', { cause: error });
}
