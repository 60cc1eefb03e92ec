/** Which source of a NAR file is tried next. Pure: it decides, others act. */

export interface SourcePlanLimits {
  /** Over all sources; those that gave `attemptWorthBytes` do not count. */
  attempts: number;
  attemptWorthBytes: number;
  /** Attempts with one source, in a row, that yield nothing. */
  attemptsPerSource: number;
  /** The same with a swarm when there is nobody else. */
  attemptsOfLastSwarm: number;
}

interface Ranked {
  readonly kind: 'swarm' | 'http';
}

/**
 * The sources that failed least go first, among equals in the order given. So a swarm that stalls is followed by HTTP,
 * and HTTP that breaks by the next upstream or the swarm again.
 */
export class SourcePlan<Source extends Ranked> {
  readonly #failures: Map<Source, number>;
  /** Those that others had to help. */
  readonly #late = new Set<Source>();
  readonly #limits: SourcePlanLimits;
  #attempts = 0;

  /** `lastResorts` come up when the others have failed once or twice. */
  constructor(sources: readonly Source[], lastResorts: readonly Source[], limits: SourcePlanLimits) {
    this.#failures = new Map(sources.map((source) => [source, 0]));
    this.#limits = limits;
    this.addLastResorts(lastResorts);
  }

  /** Sources that became known meanwhile; they go before those that are there. */
  add(sources: readonly Source[]): void {
    const others = [...this.#failures];
    this.#failures.clear();
    for (const source of sources) this.#failures.set(source, 0);
    for (const [source, failures] of others) this.#failures.set(source, failures);
  }

  addLastResorts(sources: readonly Source[]): void {
    for (const source of sources) this.#failures.set(source, this.#limits.attemptsPerSource - 1);
  }

  /**
   * The best source besides those that `running` has, and how often it failed; `undefined` when there is none, or when it is time to
   * give up. Of two that failed as often the one of another kind than those that run.
   */
  next(running: ReadonlySet<Source> = new Set()): { source: Source; failures: number } | undefined {
    if (this.#attempts >= this.#limits.attempts) return undefined;
    const kinds = new Set([...running].map(({ kind }) => kind));
    let best: { source: Source; failures: number; rank: number } | undefined;
    for (const [source, failures] of this.#failures) {
      if (running.has(source) || !this.#mayBeAsked(source, failures, running)) continue;
      const other = best && kinds.has(best.source.kind) && !kinds.has(source.kind);
      const rank = failures + (this.#late.has(source) ? 1 : 0);
      if (best === undefined || rank < best.rank || (rank === best.rank && other)) {
        best = { source, failures, rank };
      }
    }
    return best;
  }

  /** The first of that kind which has not failed yet. */
  first(kind: 'swarm' | 'http'): Source | undefined {
    for (const [source, failures] of this.#failures)
      if (failures === 0 && source.kind === kind) return source;
    return undefined;
  }

  /** Whether a source of that kind, besides those, could be asked yet, now or later. */
  has(kind: 'swarm' | 'http', besides: ReadonlySet<Source>): boolean {
    return [...this.#failures].some(
      ([source, failures]) =>
        source.kind === kind && !besides.has(source) && this.#mayBeAsked(source, failures, new Set()),
    );
  }

  /** A source is asked. */
  started(): void {
    this.#attempts++;
  }

  /** A source stopped. One that gave bytes before is not worse than one that failed once. */
  failed(source: Source, gaveBytes: number): void {
    if (gaveBytes >= this.#limits.attemptWorthBytes) this.#attempts--;
    const failures = this.#failures.get(source);
    if (failures !== undefined) this.#failures.set(source, gaveBytes > 0 ? 1 : failures + 1);
  }

  /** Another one had to help: it comes after those that have not failed, and is not given up for it. */
  late(source: Source): void {
    this.#late.add(source);
  }

  /** A source does not have the file, or gave wrong bytes: it is not tried again. */
  gone(source: Source): void {
    this.#failures.delete(source);
  }

  /** Connections of peers may break for no reason that lasts: a swarm gets more of them when there is nobody else, but those that run. */
  #mayBeAsked({ kind }: Source, failures: number, running: ReadonlySet<Source>): boolean {
    const { attemptsPerSource, attemptsOfLastSwarm } = this.#limits;
    if (failures < attemptsPerSource) return true;
    if (kind !== 'swarm' || failures >= attemptsOfLastSwarm) return false;
    return ![...this.#failures].some(([other, each]) => each < attemptsPerSource && !running.has(other));
  }
}
