/** The one table that the benchmark prints. */

export interface Row {
  what: string;
  ours: string;
  theirs: string;
  /** Ours to the other's, greater is better; `undefined` when there is nothing to compare with. */
  ratio?: number;
  /** What the ratio should be at least. */
  reach?: number;
  /** Instead of a ratio: what `ours` should be, in words such as `≤ 3 s`, and whether it is. */
  goal?: { text: string; met: boolean };
  /** Instead of a ratio: why there is none, or what to know. */
  note?: string;
}

const heads = ['what', 'ours', "the other's", 'ratio', 'to reach', ''];

export function printTable(rows: readonly Row[]): string {
  const cells = rows.map(({ what, ours, theirs, ratio, reach, goal, note = '' }) => [
    what,
    ours,
    theirs,
    ratio === undefined ? '' : `${ratio.toFixed(2)}×`,
    goal?.text ?? (reach === undefined ? '' : `≥ ${reach}×`),
    goal?.met === false || (ratio ?? 0) < (reach ?? 0) ? `missed ${note}` : note,
  ]);
  const lines = [heads, heads.map(() => ''), ...cells];
  const widths = heads.map((_head, column) =>
    Math.max(3, ...lines.map((line) => (line[column] ?? '').length)),
  );
  const print = (line: readonly string[], fill = ' '): string =>
    `| ${line.map((cell, column) => cell.padEnd(widths[column] ?? 0, fill)).join(' | ')} |`;
  return lines.map((line, index) => print(line, index === 1 ? '-' : ' ')).join('\n');
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** Not interpolated: one of the values. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}
