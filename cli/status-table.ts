/** A status object as text for people: a section for each part, a line for each figure. */

import { plainLine, printMoment } from './terminal.ts';
import { printDuration, printSize } from './units.ts';

/** Lists in a status are long; whoever wants all of one takes the JSON. */
const listMax = 10;
/** More milliseconds than this, thirty years, are a moment since 1970 and not a length of time. */
const momentMinMs = 946_684_800_000;

/** Works for any status: what the programs add later shows up by itself. Its summary, if it has one, comes first, as it is. */
export function statusTable(status: object): string {
  const sections: string[] = [];
  const top: Row[] = [];
  const words: string[] = [];
  for (const [name, value] of Object.entries(status)) {
    if (name === 'summary' && Array.isArray(value))
      words.push(`${value.map((line) => plainLine(String(line))).join('\n')}\n`);
    else if (typeof value === 'object' && value !== null) sections.push(section(name, value));
    else top.push([name, show(name, value)]);
  }
  return `${[...words, printRows(top, ''), ...sections].filter((part) => part !== '').join('\n')}\n`;
}

type Row = readonly [name: string, value: string];

function section(name: string, value: object): string {
  const rows = rowsOf(value, '', name === 'bytes');
  return rows.length === 0 ? '' : `${plainLine(name)}\n${printRows(rows, '  ')}`;
}

function rowsOf(value: object, prefix: string, bytes: boolean): Row[] {
  if (Array.isArray(value)) return listRows(value, prefix);
  return Object.entries(value).flatMap(([name, inner]: [string, unknown]) => {
    const path = `${prefix}${name}`;
    if (Array.isArray(inner)) return listRows(inner, path);
    if (typeof inner === 'object' && inner !== null)
      return rowsOf(inner, `${path}.`, bytes || name === 'bytes');
    return [[path, show(bytes ? `${name}Bytes` : name, inner)] as const];
  });
}

/** Objects have a line each, and one above them that says what the columns are. */
function listRows(list: unknown[], name: string): Row[] {
  const shown = list.slice(0, listMax);
  const records = shown.filter((item) => typeof item === 'object' && item !== null);
  const lines =
    records.length === shown.length ? columns(records) : shown.map((item) => plainLine(String(item)));
  const rows = lines.map((line, index): Row => [index === 0 ? name : '', line]);
  if (list.length > listMax) rows.push(['', `and ${list.length - listMax} more`]);
  return rows;
}

function columns(records: readonly object[]): string[] {
  const names = [...new Set(records.flatMap((record) => Object.keys(record)))];
  if (names.length === 0) return [];
  const cells = records.map((record) => {
    const values = new Map<string, unknown>(Object.entries(record));
    return names.map((name) => (values.has(name) ? show(name, values.get(name)) : '–'));
  });
  const lines = [names.map(plainLine), ...cells];
  const widths = names.map((_name, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  return lines.map((line) =>
    line
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}

/** The unit is at the end of the name. */
function show(name: string, value: unknown): string {
  if (typeof value === 'number' && /bytes$/i.test(name)) return printSize(value);
  if (typeof value === 'number' && /bytesPerSecond$/i.test(name)) return `${printSize(value)}/s`;
  if (typeof value === 'number' && /^seconds|Seconds$/.test(name)) return printDuration(value * 1000);
  if (typeof value === 'number' && /Ms$/.test(name)) {
    return value < momentMinMs ? printDuration(value) : printMoment(value);
  }
  if (typeof value === 'number') return value.toLocaleString('en-US');
  if (typeof value === 'object' && value !== null) return plainLine(JSON.stringify(value));
  return plainLine(String(value));
}

function printRows(rows: readonly Row[], indent: string): string {
  const width = Math.max(0, ...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `${indent}${plainLine(name).padEnd(width)}  ${value}`).join('\n');
}
