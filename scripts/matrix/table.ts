/** The tables that `npm run matrix` prints: one for each state of the catalog. */

import type { CellResult, GroupResult } from './run.ts';
import { catalogStates, swarmStates, upstreamStates } from './states.ts';

export function printMatrix(groups: readonly GroupResult[]): string {
  const catalogs = catalogStates.filter((state) => groups.some(({ group }) => group.catalog === state));
  const upstreams = upstreamStates.filter((state) => groups.some(({ group }) => group.upstream === state));
  const cells = new Map(
    groups
      .flatMap(({ cells: each }) => each)
      .map((cell) => [`${cell.upstream} ${cell.swarm} ${cell.catalog}`, cell]),
  );
  const tables = catalogs.map((catalog) => {
    const rows = upstreams.map((upstream) => [
      upstream,
      ...swarmStates.map((swarm) => printTime(cells.get(`${upstream} ${swarm} ${catalog}`))),
    ]);
    const heads = [`catalog ${catalog}`, ...swarmStates];
    return printTable([heads, ...rows]);
  });
  return tables.join('\n\n');
}

/** Seconds; `→` where the next substituter had to do it, `!` where the promise was broken. */
function printTime(cell: CellResult | undefined): string {
  if (cell === undefined) return '–';
  const { ms } = cell.outcome;
  return `${(ms / 1_000).toFixed(1)}${cell.fellThrough ? ' →' : ''}${cell.verdict.ok ? '' : ' !'}`;
}

function printTable(lines: readonly (readonly string[])[]): string {
  const columns = lines[0]?.length ?? 0;
  const widths = Array.from({ length: columns }, (_, column) =>
    Math.max(...lines.map((line) => (line[column] ?? '').length)),
  );
  const print = (line: readonly string[], fill = ' '): string =>
    `| ${line.map((text, column) => text.padEnd(widths[column] ?? 0, fill)).join(' | ')} |`;
  const [head = [], ...rest] = lines;
  const rule = head.map(() => '');
  return [print(head), print(rule, '-'), ...rest.map((line) => print(line))].join('\n');
}
