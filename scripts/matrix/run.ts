/** Runs cells: real Nix realises a closure into a store of its own, through a real client process. */

import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { printPublicKey } from '../../nar/signature.ts';
import { type Program, startProgram } from '../../tests/helpers/program.ts';
import { openCatalog } from './catalogs.ts';
import { explain } from './explain.ts';
import { healthOf, settled } from './health.ts';
import type { MatrixLab } from './lab.ts';
import type { Cell, Group, SwarmState, UpstreamState } from './states.ts';
import { openSwarms } from './swarms.ts';
import { openUpstream } from './upstreams.ts';
import { type Alone, betterMs, boundOf, type Outcome, type Verdict, verdict } from './verdict.ts';

/** Of one alone: beyond this it does not count as having the closure. */
const aloneMs = 15_000;

/** Up to Nix 2.15 as many paths are substituted at once as there are jobs, of which there is one. Later ones do 16. */
const nixOptions = { 'max-jobs': '16' };

export interface CellResult extends Cell {
  readonly outcome: Outcome;
  /** Neither upstream nor swarm has the closure: a good cache is behind the client. */
  readonly fellThrough: boolean;
  readonly verdict: Verdict;
  /** What the client did, where the promise was broken, or in every cell. */
  readonly story: readonly string[];
}

export interface GroupResult {
  readonly group: Group;
  readonly cells: readonly CellResult[];
  /** What was wrong with the client process at the end. */
  readonly client: string | undefined;
}

/** The swarms that have all of a closure, if the catalog is up. Of the others nothing is ever whole. */
const wholeSwarms: ReadonlySet<SwarmState> = new Set(['good', 'flaky', 'slow', 'capped']);

export class MatrixRun {
  readonly #lab: MatrixLab;
  readonly #upstreamMs = new Map<UpstreamState, number | undefined>();
  readonly #swarmMs = new Map<SwarmState, number | undefined>();
  /** Who uses the capped seeder; what it gives to two is half for each. */
  #capped: Promise<unknown> = Promise.resolve();
  readonly #graceMs: number;
  readonly #tellsAll: boolean;
  #cells = 0;

  /** A realisation that is too slow goes on for `graceMs` beyond what it is held to, to see by how much. `tellsAll`: what the client did in cells that kept the promise, too. */
  constructor(lab: MatrixLab, graceMs: number, tellsAll = false) {
    this.#lab = lab;
    this.#tellsAll = tellsAll;
    this.#graceMs = graceMs;
  }

  /** Nix asks the upstream itself: this is what the client is compared with. */
  async upstreamAlone(state: UpstreamState): Promise<number | undefined> {
    const upstream = await openUpstream(this.#lab, state);
    try {
      const outcome = await this.#realise('good', [upstream.url], aloneMs);
      const ms = outcome.failure === undefined ? outcome.ms : undefined;
      this.#upstreamMs.set(state, ms);
      return ms;
    } finally {
      await upstream.close();
    }
  }

  /** A client without an upstream. */
  async swarmAlone(swarm: SwarmState): Promise<number | undefined> {
    if (!wholeSwarms.has(swarm)) return undefined;
    const swarms = await openSwarms(this.#lab);
    const catalog = await openCatalog(this.#lab, 'up', (hash) => this.#peers(swarms, hash));
    const client = await this.#client([], catalog.url);
    try {
      const run = (): Promise<Outcome> => this.#realise(swarm, [client.url], aloneMs);
      const outcome = await (swarm === 'capped' ? this.#alone(run) : run());
      const ms = outcome.failure === undefined ? outcome.ms : undefined;
      this.#swarmMs.set(swarm, ms);
      return ms;
    } finally {
      await client.stop();
      await catalog.close();
      await swarms.close();
    }
  }

  /** Call when upstreams and swarms were measured alone. `onCell` is told of each cell as it ends. */
  async group(group: Group, onCell: (cell: CellResult) => void): Promise<GroupResult> {
    const upstream = await openUpstream(this.#lab, group.upstream);
    const swarms = await openSwarms(this.#lab);
    const catalog = await openCatalog(this.#lab, group.catalog, (hash) => this.#peers(swarms, hash));
    const client = await this.#client([upstream.url], catalog.url);
    const cells: CellResult[] = [];
    let wrong: string | undefined;
    let closed: Promise<unknown> | undefined;
    const closeServers = (): Promise<unknown> => {
      closed ??= Promise.all([upstream, catalog, swarms].map((server) => server.close()));
      return closed;
    };
    try {
      const before = await healthOf(client);
      for (const swarm of group.swarms) {
        const cell = { upstream: group.upstream, catalog: group.catalog, swarm };
        const run = (): Promise<CellResult> => this.#cell(cell, client);
        const result = await (swarm === 'capped' ? this.#alone(run) : run());
        cells.push(result);
        onCell(result);
      }
      // Connections that are kept for the next request end with the servers.
      await closeServers();
      wrong = await settled(client, before).catch((error: unknown) => String(error));
    } finally {
      await closeServers();
      const status = await client.stop();
      if (status !== 0) wrong ??= `the client ended with ${status}`;
      if (/^narswarm: unexpected/m.test(client.log())) wrong ??= client.log().trim().split('\n').at(-1);
    }
    return { group, cells, client: wrong };
  }

  async #cell(cell: Cell, client: Program): Promise<CellResult> {
    const alone = this.#aloneOf(cell);
    // Where one of the two suffices the client is all there is; otherwise a good cache is behind it.
    const fellThrough = betterMs(alone) === undefined;
    const behind = fellThrough ? [`${this.#lab.nginx.url}?priority=90`] : [];
    const start = { atMs: Date.now(), logged: client.log().length };
    const outcome = await this.#realise(cell.swarm, [client.url, ...behind], boundOf(alone) + this.#graceMs);
    const held = verdict(alone, outcome);
    const closure = this.#lab.closures.get(cell.swarm);
    const story =
      (held.ok && !this.#tellsAll) || closure === undefined
        ? []
        : await explain(client, closure, start).catch((error: unknown) => [String(error)]);
    return { ...cell, outcome, fellThrough, verdict: held, story };
  }

  #aloneOf({ upstream, swarm, catalog }: Cell): Alone {
    return {
      upstreamMs: this.#upstreamMs.get(upstream),
      // A stale catalog lacks some of it, a forged one is not believed.
      swarmMs: catalog === 'up' ? this.#swarmMs.get(swarm) : undefined,
    };
  }

  /** Into a new store, which is verified; with a HOME of its own, where Nix remembers narinfos. */
  async #realise(swarm: SwarmState, substituters: string[], timeoutMs: number): Promise<Outcome> {
    const { nix, closures } = this.#lab;
    const target = closures.get(swarm)?.target ?? '';
    const name = `cell-${this.#cells++}`;
    const startedMs = performance.now();
    let text = '';
    let failure: string | undefined;
    const signal = AbortSignal.timeout(Math.ceil(timeoutMs));
    try {
      const home = `home-${name}`;
      text = await nix.realise({
        store: name,
        home,
        path: target,
        substituters,
        signal,
        options: nixOptions,
      });
    } catch (error) {
      text = stderrOf(error);
      failure = signal.aborted ? `not done after ${Math.round(timeoutMs)} ms` : lastError(text);
    }
    const ms = performance.now() - startedMs;
    try {
      if (failure === undefined) await nix.verify(name);
    } catch (error) {
      failure = `the store does not verify: ${lastError(stderrOf(error))}`;
    }
    await nix.remove(`store-${name}`);
    await nix.remove(`home-${name}`);
    const serverErrors = [...new Set(text.match(/HTTP error 5\d\d/g) ?? [])];
    return { ms, serverErrors, ...(failure === undefined ? {} : { failure }) };
  }

  async #client(upstreams: readonly string[], catalog: string): Promise<Program> {
    const { nix, cache, catalogKey } = this.#lab;
    const data = join(nix.dir, `client-${this.#cells++}`);
    const client = await startProgram([
      ...['client', '--data', data, '--http', '127.0.0.1:0', '--catalog', catalog],
      ...['--catalog-key', printPublicKey(catalogKey.publicKey)],
      ...['--trusted-key', printPublicKey(cache.publicKey)],
      ...(upstreams.length === 0 ? ['--no-upstream'] : upstreams.flatMap((url) => ['--upstream', url])),
    ]);
    const stop = async (): Promise<number | null> => {
      const status = await client.stop();
      await rm(data, { recursive: true, force: true });
      return status;
    };
    return { ...client, stop };
  }

  #peers(swarms: Awaited<ReturnType<typeof openSwarms>>, fileHash: string): readonly string[] {
    const swarm = this.#lab.swarmOf(fileHash);
    return swarm === undefined ? [] : swarms.peersOf(swarm);
  }

  /** One after the other. */
  #alone<T>(run: () => Promise<T>): Promise<T> {
    const next = this.#capped.then(run);
    this.#capped = next.catch(() => undefined);
    return next;
  }
}

function stderrOf(error: unknown): string {
  return error instanceof Error && 'stderr' in error ? String(error.stderr) : String(error);
}

function lastError(text: string): string {
  const errors = text.split('\n').filter((line) => line.includes('error'));
  return (errors.at(-1) ?? text.trim()).trim().slice(0, 200);
}
