/** Which source of a NAR file is tried next. Pure: it decides, others act. */

export interface SourcePlanLimits {
  /** Over all sources. */
  attempts: number;
  /** Attempts with one source that yield nothing. */
  attemptsPerSource: number;
}

/**
 * The sources that failed least go first, among equals in the order given. So a swarm that stalls is followed by HTTP,
 * and HTTP that breaks by the next upstream or the swarm again.
 */
export class SourcePlan<Source> {
  readonly #failures: Map<Source, number>;
  readonly #limits: SourcePlanLimits;
  #attempts = 0;

  /** `lastResorts` come up when the others have failed once or twice. */
  constructor(sources: readonly Source[], lastResorts: readonly Source[], limits: SourcePlanLimits) {
    this.#failures = new Map(sources.map((source) => [source, 0]));
    for (const source of lastResorts) this.#failures.set(source, limits.attemptsPerSource - 1);
    this.#limits = limits;
  }

  /** The next source and how often it failed; `undefined` when it is time to give up. */
  next(): { source: Source; failures: number } | undefined {
    if (this.#attempts >= this.#limits.attempts) return undefined;
    let best: { source: Source; failures: number } | undefined;
    for (const [source, failures] of this.#failures) {
      if (best === undefined || failures < best.failures) best = { source, failures };
    }
    if (best !== undefined) this.#attempts++;
    return best;
  }

  /** A source stopped. One that gave bytes before is not worse than one that failed once. */
  failed(source: Source, gaveBytes: boolean): void {
    const failures = gaveBytes ? 1 : (this.#failures.get(source) ?? 0) + 1;
    if (failures >= this.#limits.attemptsPerSource) this.#failures.delete(source);
    else if (this.#failures.has(source)) this.#failures.set(source, failures);
  }

  /** A source does not have the file, or gave wrong bytes: it is not tried again. */
  gone(source: Source): void {
    this.#failures.delete(source);
  }
}
