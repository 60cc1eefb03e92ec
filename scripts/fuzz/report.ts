/** The table at the end of a run. */

import type { RunResult } from './run.ts';

const heads = [
  'target',
  'inputs',
  'inputs/s',
  'accepted',
  'refused',
  'slowest',
  'memory',
  'kept',
  'failures',
];

export function printTable(results: ReadonlyMap<string, RunResult>): string {
  const rows = [...results].map(([name, result]) => rowOf(name, result));
  rows.push(rowOf('all', total([...results.values()])));
  const widths = heads.map((head, column) =>
    Math.max(head.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  return [heads, ...rows]
    .map((row) =>
      row
        .map((cell, column) => pad(cell, widths[column] ?? 0, column))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

function pad(cell: string, width: number, column: number): string {
  return column === 0 ? cell.padEnd(width) : cell.padStart(width);
}

function rowOf(name: string, result: RunResult): string[] {
  const { inputs, ms, accepted, refused, slowestMs, memoryBytes, keptBytes, failures } = result;
  return [
    name,
    String(inputs),
    String(Math.round((inputs / ms) * 1_000)),
    String(accepted),
    String(refused),
    `${slowestMs.toFixed(1)} ms`,
    `${(memoryBytes / 1024).toFixed(0)} KiB`,
    `${(keptBytes / 1024).toFixed(0)} KiB`,
    String(failures.length),
  ];
}

function total(results: readonly RunResult[]): RunResult {
  const sum = (of: (result: RunResult) => number): number =>
    results.reduce((all, result) => all + of(result), 0);
  const most = (of: (result: RunResult) => number): number => Math.max(0, ...results.map(of));
  return {
    inputs: sum(({ inputs }) => inputs),
    ms: sum(({ ms }) => ms),
    accepted: sum(({ accepted }) => accepted),
    refused: sum(({ refused }) => refused),
    slowestMs: most(({ slowestMs }) => slowestMs),
    slowestCase: 0,
    memoryBytes: most(({ memoryBytes }) => memoryBytes),
    keptBytes: sum(({ keptBytes }) => keptBytes),
    failures: results.flatMap(({ failures }) => failures),
  };
}
