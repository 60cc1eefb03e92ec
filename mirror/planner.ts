/**
 * Decides what is wanted, again whenever a catalog or the circumstances change, and what has to go: what was revoked at once, what the quota
 * no longer allows, and what makes room for what is wanted more.
 */

import { readFile } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import { NarswarmError } from '../nar/errors.ts';
import type { Sha256 } from '../nar/hash.ts';
import { parseStorePath, type StorePath, storeHashOf } from '../nar/store-path.ts';
import type { Logger } from '../web/log.ts';
import type { MirrorCatalog } from './catalogs.ts';
import type { MirrorLimits } from './config.ts';
import type { CopyCheck } from './copy-check.ts';
import { type HeldItem, planEviction } from './eviction.ts';
import type { CurrentPlan } from './fetch-queue.ts';
import { HeldIndex } from './held-index.ts';
import type { Holdings } from './holdings.ts';
import type { Ledger } from './ledger.ts';
import { CatalogLibrary } from './library.ts';
import { inTurns, makePlan, type Plan, type PlannedRule, planAll, type RuleResult } from './plan.ts';
import type { SeedsKnown } from './seeds.ts';
import { orderOf, type Selection } from './selection.ts';
import type { MirrorState } from './state.ts';
import { WakeUp } from './wake-up.ts';

/** Rows looked at between two turns of others. */
const turnRows = 500;
/** Store paths in one `paths:` file. */
const pathsMax = 1_000_000;
/** Freed at once when what is wanted needs room, so that not every file looks for its own. */
const roomBytes = 64 * 1024 * 1024;

export interface PlannerOptions {
  catalogs: readonly MirrorCatalog[];
  holdings: Holdings;
  state: MirrorState;
  ledger: Ledger;
  seeds: SeedsKnown;
  selections: readonly Selection[];
  /** Whether others have what they are said to have. */
  copies: Pick<CopyCheck, 'findFalse'>;
  /** Tells one mirror from another. */
  salt: number;
  limits: MirrorLimits;
  logger: Logger;
  /** What is on the disk is known. */
  recovered: Promise<unknown>;
  /** Whether every catalog's server has said what others hold, or could not be asked. */
  seedsSettled(): boolean;
  /** Bytes in the data directory that are no NAR files. */
  otherBytes(): Promise<number>;
  onPlan(current: CurrentPlan): void;
}

export interface KeptLastCopies {
  /** Wanted by no selection, and kept because nobody else is known to have them. */
  files: number;
  bytes: number;
}

export class Planner {
  readonly #options: PlannerOptions;
  readonly #wake = new WakeUp();
  readonly #closing = new AbortController();
  #current: CurrentPlan | undefined;
  /** Of the plan that is being made. */
  #filling: HeldIndex | undefined;
  #rules: readonly RuleResult[] = [];
  #wantedFiles = 0;
  #wantedBytes = 0;
  #kept: KeptLastCopies = { files: 0, bytes: 0 };
  #lastCopiesEvicted = 0;
  /** What items that are not wanted reference, for the present plan. */
  #references = new Map<number, readonly number[]>();
  #making: Promise<unknown> = Promise.resolve();
  #plans = 0;
  readonly #loop: Promise<void>;

  constructor(options: PlannerOptions) {
    this.#options = options;
    options.holdings.onChange(({ fileHash, sizeBytes: bytes }, held) => {
      const sizeBytes = held ? bytes : undefined;
      this.#current?.held.set(fileHash, sizeBytes);
      this.#filling?.set(fileHash, sizeBytes);
    });
    this.#loop = this.#run();
  }

  /** What holds at the moment; `undefined` before the first plan. */
  get current(): CurrentPlan | undefined {
    return this.#current;
  }

  /** Something changed that the plan follows from. */
  request(): void {
    this.#wake.ring();
  }

  /** What was revoked goes at once, whenever it is planned next. Never rejects. */
  async takeOutRevoked(): Promise<void> {
    await this.#options.recovered;
    try {
      await this.#alone(() => this.#takeOutRevoked());
    } catch (error) {
      this.#options.logger.error('revoking-failed', { error });
    }
  }

  /**
   * Frees at least `bytes` if it can without losing a last copy or anything wanted. Resolves with what it freed.
   */
  makeRoom(bytes: number): Promise<number> {
    return this.#alone(() => this.#evict(bytes, Math.max(bytes, roomBytes), false));
  }

  status() {
    return {
      plans: this.#plans,
      wantedFiles: this.#wantedFiles,
      wantedBytes: this.#wantedBytes,
      keptLastCopies: { ...this.#kept },
      evictedLastCopies: this.#lastCopiesEvicted,
      selections: this.#options.selections.map(({ text, share }, index) => ({
        select: text,
        ...(share === undefined ? {} : { sharePercent: Math.round(share * 100) }),
        ...(this.#rules[index] ?? { files: 0, bytes: 0, skippedRoots: 0 }),
      })),
    };
  }

  /** May be called twice. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#wake.ring();
    await this.#loop;
    await this.#making;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const { limits, logger } = this.#options;
    await this.#options.recovered;
    await this.#wake.wait(limits.planEveryMs, signal);
    while (!signal.aborted) {
      const startedMs = performance.now();
      try {
        await this.#alone(() => this.#plan());
      } catch (error) {
        if (signal.aborted) return;
        logger.error('planning-failed', { error });
      }
      const restMs = (performance.now() - startedMs) * limits.planRest;
      await new WakeUp().wait(Math.max(limits.planGapMs, restMs), signal);
      await this.#wake.wait(limits.planEveryMs, signal);
    }
  }

  /** Plans and evictions one after another. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#making.then(work);
    this.#making = done.catch(() => undefined);
    return done;
  }

  async #plan(): Promise<void> {
    const { catalogs, state, ledger, seeds, selections, salt, logger, onPlan } = this.#options;
    const { signal } = this.#closing;
    if (!catalogs.some(({ isKnown }) => isKnown)) return;
    ledger.setOther(await this.#options.otherBytes());
    await this.#takeOutRevoked();
    const library = await CatalogLibrary.build(catalogs, signal);
    const held = new HeldIndex(catalogs, library);
    this.#filling = held;
    await held.fill(state, signal);
    const about = {
      seedsOf: (item: number) => seedsOf(library, seeds, item),
      demandOf: (item: number) => {
        const place = library.placeOf(item);
        return place === undefined ? 0 : seeds.demandOf(place.catalog, place.ordinal);
      },
      isHeld: (item: number) => held.items.has(item),
      salt,
    };
    const quotaBytes = ledger.narBytesMax;
    const rules: PlannedRule[] = [];
    for (const { rule, share } of selections) {
      const roots =
        rule.kind === 'popular' || rule.kind === 'rare' || rule.kind === 'all'
          ? orderOf(rule.kind, library.items, about)
          : rule.kind === 'channel'
            ? await this.#viewRoots(rule.name, library)
            : this.#pathRoots(
                rule.kind === 'closure' ? [rule.storePath] : await readPaths(rule.file),
                library,
              );
      rules.push({ roots, shareBytes: share === undefined ? undefined : Math.floor(share * quotaBytes) });
    }
    const all = selections.findIndex(({ rule, share }) => rule.kind === 'all' && share === undefined);
    const fits = all >= 0 && library.totalBytes() <= quotaBytes;
    const make = (of: readonly PlannedRule[]): Promise<Plan> =>
      inTurns(makePlan(library, of, quotaBytes), () => setImmediate());
    let plan = fits ? planAll(library, rules.length, all) : await make(rules);
    const settled = this.#options.seedsSettled();
    const last = settled ? [...held.items].filter((item) => about.seedsOf(item) === 0) : [];
    const kept = last.filter((item) => !plan.wanted.has(item));
    if (kept.length > 0) {
      // What is kept for being the last copy takes its place before what is wanted.
      const { bytes } = await make([{ roots: last, shareBytes: quotaBytes }]);
      const whole = await make([{ roots: last, shareBytes: bytes }, ...rules]);
      plan = { ...whole, rules: whole.rules.slice(1) };
    }
    this.#kept = { files: kept.length, bytes: kept.reduce((sum, item) => sum + library.sizeOf(item), 0) };
    signal.throwIfAborted();
    this.#current = { plan, library, held };
    this.#filling = undefined;
    this.#references = new Map();
    this.#rules = plan.rules;
    this.#wantedFiles = plan.wanted.size;
    this.#wantedBytes = plan.bytes;
    this.#plans++;
    logger.info('planned', {
      wantedFiles: plan.wanted.size,
      wantedBytes: plan.bytes,
      heldFiles: held.items.size,
    });
    // Before it is known what others have, everything looks like a last copy. Nothing new is fetched meanwhile.
    if (ledger.overBytes > 0 && settled) await this.#evict(ledger.overBytes, ledger.overBytes, true);
    onPlan(this.#current);
    if (settled) await this.#noteSeeds(this.#current);
  }

  /** Revoked by every catalog that has them. */
  async #takeOutRevoked(): Promise<void> {
    const { catalogs, state, holdings, logger } = this.#options;
    for (const { followed } of catalogs) {
      for (let after: Sha256 | undefined; ; ) {
        const page = followed.revocations(after, turnRows);
        for (const { fileHash, reason } of page) {
          if (!state.isHeld(fileHash)) continue;
          const elsewhere = catalogs.some((other) => other.torrentInfo(fileHash) !== undefined);
          if (elsewhere) continue;
          logger.warn('revoked', { fileHash, reason });
          await holdings.takeOut(fileHash, 'revoked');
        }
        const last = page.at(-1);
        if (last === undefined) break;
        after = last.fileHash;
        await setImmediate();
      }
    }
  }

  async #viewRoots(name: string, library: CatalogLibrary): Promise<number[]> {
    const roots: number[] = [];
    for (const catalog of this.#options.catalogs) {
      const view = catalog.view(name);
      for (let after = -1; view !== undefined; ) {
        const entries = view.entries(after, turnRows);
        for (const { fileHash } of entries) roots.push(library.itemOf(fileHash) ?? -1);
        const last = entries.at(-1);
        if (last === undefined) break;
        after = last.ordinal;
        await setImmediate();
      }
    }
    return roots.filter((item) => item >= 0);
  }

  #pathRoots(paths: readonly StorePath[], library: CatalogLibrary): number[] {
    return paths.flatMap((path) => {
      const items = this.#options.catalogs.flatMap(({ followed }) => {
        const fileHash = followed.narInfo(storeHashOf(path))?.fileHash;
        return fileHash === undefined ? [] : (library.itemOf(fileHash) ?? []);
      });
      return items.slice(0, 1);
    });
  }

  /** Frees `needBytes`, and up to `goodBytes` while it is at it. */
  async #evict(needBytes: number, goodBytes: number, forced: boolean): Promise<number> {
    const { holdings, catalogs, logger } = this.#options;
    const current = this.#current;
    if (current === undefined) return 0;
    let freed = 0;
    // Of a catalog that is configured no more; one whose log is not there yet may still claim them.
    if (catalogs.every(({ isKnown }) => isKnown)) {
      for (const [fileHash, sizeBytes] of current.held.strangers) {
        if (freed >= needBytes) break;
        await holdings.takeOut(fileHash, 'evicted');
        freed += sizeBytes;
      }
    }
    if (freed >= needBytes) return freed;
    const held = this.#heldItems(current);
    await this.#readReferences(current, held, forced);
    const wish = { held, referencesOf: (item: number) => this.#references.get(item) ?? [], forced };
    const eviction = planEviction({ ...wish, needBytes: goodBytes - freed });
    const claims = eviction.items.flatMap(({ item, otherSeeds }) => {
      const fileHash = current.library.fileHashOf(item);
      const catalog = current.library.placeOf(item)?.catalog;
      return otherSeeds > 0 && fileHash !== undefined && catalog !== undefined ? [{ catalog, fileHash }] : [];
    });
    const falseClaim = await this.#options.copies.findFalse(claims, this.#closing.signal);
    if (falseClaim !== undefined) {
      const { catalog, fileHash } = falseClaim;
      logger.warn('copies-not-found', { catalog: catalog.name, fileHash });
      // It is planned anew at once, as if nobody had anything.
      this.#options.seeds.distrust(catalog);
      return freed;
    }
    for (const each of eviction.items) {
      const fileHash = current.library.fileHashOf(each.item);
      if (fileHash === undefined) continue;
      if (each.otherSeeds === 0) {
        this.#lastCopiesEvicted++;
        logger.warn('evicting-last-copy', { fileHash, sizeBytes: each.sizeBytes });
      }
      await holdings.takeOut(fileHash, 'evicted');
      freed += each.sizeBytes;
    }
    if (eviction.items.length > 0) {
      logger.info('evicted', { files: eviction.items.length, bytes: eviction.freedBytes, forced });
    }
    return freed;
  }

  #heldItems({ plan, library, held }: CurrentPlan): HeldItem[] {
    const items: HeldItem[] = [];
    for (const item of held.items) {
      items.push({
        item,
        sizeBytes: library.sizeOf(item),
        wanted: plan.wanted.has(item),
        otherSeeds: seedsOf(library, this.#options.seeds, item),
      });
    }
    return items;
  }

  /** Of what may go, once for each plan. */
  async #readReferences({ library }: CurrentPlan, held: readonly HeldItem[], forced: boolean): Promise<void> {
    let looked = 0;
    for (const { item, wanted } of held) {
      if ((wanted && !forced) || this.#references.has(item)) continue;
      this.#references.set(item, library.referencesOf(item) ?? []);
      if (++looked % turnRows === 0) await setImmediate();
    }
  }

  /** For whoever asks later how many seeds there were. */
  async #noteSeeds({ library }: CurrentPlan): Promise<void> {
    const { state, seeds } = this.#options;
    for (let after: Sha256 | undefined; ; ) {
      const page = state.page(after);
      const counts = page.flatMap(({ fileHash }) => {
        const item = library.itemOf(fileHash);
        return item === undefined ? [] : [[fileHash, seedsOf(library, seeds, item)] as const];
      });
      state.setSeeds(counts, Date.now());
      const last = page.at(-1);
      if (last === undefined) return;
      after = last.fileHash;
      await setImmediate();
      this.#closing.signal.throwIfAborted();
    }
  }
}

function seedsOf(library: CatalogLibrary, seeds: SeedsKnown, item: number): number {
  const place = library.placeOf(item);
  return place === undefined ? 0 : seeds.seedsOf(place.catalog, place.ordinal);
}

/** Throws config-invalid: the administrator is to see it, at start and in the log later. */
export async function readPaths(file: string): Promise<StorePath[]> {
  try {
    const lines = (await readFile(file, 'utf8')).split('\n');
    const paths = lines.map((line) => line.trim()).filter((line) => line !== '' && !line.startsWith('#'));
    if (paths.length > pathsMax) throw new Error(`more than ${pathsMax} paths`);
    return paths.map(parseStorePath);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new NarswarmError('config-invalid', `paths:${file}: ${why}`, { cause });
  }
}
