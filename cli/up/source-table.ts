/** The table of what came from where. */

import { printSize } from '../units.ts';

/** What it needs of a client's status. */
export interface SourceCounts {
  bytes: Readonly<Record<'swarm' | 'http' | 'held', number>>;
  nars: Readonly<Record<'swarm' | 'http' | 'held', number>>;
}

const sources = [
  ['swarm', 'peers'],
  ['http', 'HTTP'],
  ['held', 'held already'],
] as const;

export function sourceTable({ bytes, nars }: SourceCounts, elapsedMs: number): string {
  const row = (cells: readonly [string, string, string]): string =>
    `  ${cells[0].padEnd(14)}${cells[1].padStart(6)}${cells[2].padStart(12)}`;
  const total = bytes.swarm + bytes.http + bytes.held;
  return [
    row(['from', 'NARs', 'bytes']),
    ...sources.map(([key, name]) => row([name, String(nars[key]), printSize(bytes[key])])),
    row(['together', String(nars.swarm + nars.http + nars.held), printSize(total)]),
    `  ${printSize((total * 1_000) / Math.max(elapsedMs, 1))}/s`,
  ].join('\n');
}
