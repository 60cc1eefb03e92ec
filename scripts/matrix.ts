/**
 * Every state of upstream, swarm and catalog with every other, each with real Nix through a real client: it gets its closure when upstream
 * or swarm alone would give it, hardly later than from the better of the two, or goes on to its next substituter. Prints a table for
 * each state of the catalog; the exit status is 1 when a cell broke the promise.
 */
import { parseArgs } from 'node:util';
import { MatrixLab } from './matrix/lab.ts';
import { type CellResult, type GroupResult, MatrixRun } from './matrix/run.ts';
import {
  catalogStates,
  type Group,
  groupsOf,
  printCell,
  swarmStates,
  upstreamStates,
} from './matrix/states.ts';
import { printMatrix } from './matrix/table.ts';
import { countOf, namedIn, readOptions } from './usage.ts';

const graceMs = 5_000;

const usage = `npm run matrix -- [--upstream good,slow] [--swarm lying] [--catalog up] [--jobs 2] [--stories]

  --upstream  ${upstreamStates.join(', ')}
  --swarm     ${swarmStates.join(', ')}
  --catalog   ${catalogStates.join(', ')}
  --jobs      clients at a time
  --stories   tells what the client did in every cell, not in broken ones alone`;

const { groups, upstreams, swarms, jobs, stories } = readOptions(usage, () => {
  const { values } = parseArgs({
    options: {
      upstream: { type: 'string' },
      swarm: { type: 'string' },
      catalog: { type: 'string' },
      jobs: { type: 'string', default: '2' },
      stories: { type: 'boolean', default: false },
    },
  });
  const upstreams = namedIn(upstreamStates, values.upstream);
  const swarms = namedIn(swarmStates, values.swarm);
  const catalogs = namedIn(catalogStates, values.catalog);
  const groups = groupsOf(
    ({ upstream, swarm, catalog }) =>
      upstreams.includes(upstream) && swarms.includes(swarm) && catalogs.includes(catalog),
  );
  return { groups, upstreams, swarms, jobs: countOf('jobs', values.jobs), stories: values.stories };
});

const lab = await MatrixLab.open();
const results: GroupResult[] = [];
try {
  const run = new MatrixRun(lab, graceMs, stories);
  const alone = [
    ...upstreams.map((state) => async () => sayAlone(`upstream ${state}`, await run.upstreamAlone(state))),
    ...swarms.map((state) => async () => sayAlone(`swarm ${state}`, await run.swarmAlone(state))),
  ];
  await sideBySide(alone, (measure) => measure());
  await sideBySide(groups, async (group: Group) => {
    const result = await run.group(group, sayCell);
    results.push(result);
    if (result.client !== undefined)
      say(`upstream ${group.upstream}, catalog ${group.catalog}: ${result.client}`);
  });
} finally {
  await lab.close();
}

const cells = results.flatMap((result) => result.cells);
const broken = cells.filter(({ verdict }) => !verdict.ok);
const clients = results.filter(({ client }) => client !== undefined);
console.log(printMatrix(results));
console.log('\nSeconds; → by the next substituter, ! against the promise');
if (broken.length > 0) console.log(`\nBroken:\n${broken.map((cell) => `  ${describe(cell)}`).join('\n')}`);
for (const { group, client } of clients)
  console.log(`\nThe client of upstream ${group.upstream}, catalog ${group.catalog}: ${client}`);
console.log(`\n${cells.length - broken.length} cells kept the promise, ${broken.length} did not`);
process.exitCode = broken.length + clients.length > 0 ? 1 : 0;

/** So many at a time as there are jobs, in order. */
async function sideBySide<T>(all: readonly T[], act: (one: T) => Promise<void>): Promise<void> {
  const left = all.values();
  const lane = async (): Promise<void> => {
    for (const one of left) await act(one);
  };
  await Promise.all(Array.from({ length: jobs }, lane));
}

/** The tables come at the end; this shows how far it is. */
function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

function sayAlone(what: string, ms: number | undefined): void {
  say(`${what} alone: ${ms === undefined ? 'does not give it' : `${(ms / 1_000).toFixed(1)} s`}`);
}

function sayCell(cell: CellResult): void {
  say(describe(cell));
  for (const line of cell.story) say(`  ${line}`);
}

function describe(cell: CellResult): string {
  const { outcome, verdict } = cell;
  const times = `${(outcome.ms / 1_000).toFixed(1)} s of ${(verdict.boundMs / 1_000).toFixed(1)}`;
  const how = cell.fellThrough ? ', by the next substituter' : '';
  return `${printCell(cell)}: ${verdict.ok ? 'ok' : `BROKEN, ${verdict.why}`}, ${times}${how}`;
}
