/** The table that `npm run interop` prints. */

import type { Row } from './cases.ts';

const heads = ['program', 'version', 'how', 'size', 'seconds', 'result'];

export function printRows(rows: readonly Row[]): string {
  const cells = rows.map(({ program, version, how, size, seconds, result }) => [
    ...[program, version, how, size, seconds?.toFixed(1) ?? ''],
    // What a program says when it fails may have lines.
    result.replaceAll(/\s+/g, ' ').slice(0, 200),
  ]);
  const widths = heads.map((head, column) =>
    Math.max(head.length, ...cells.map((line) => (line[column] ?? '').length)),
  );
  const print = (line: readonly string[], fill = ' '): string =>
    `| ${line.map((cell, column) => cell.padEnd(widths[column] ?? 0, fill)).join(' | ')} |`;
  return [
    print(heads),
    print(
      heads.map(() => ''),
      '-',
    ),
    ...cells.map((line) => print(line)),
  ].join('\n');
}
