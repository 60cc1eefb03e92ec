/** The text of --help, laid out for the width of the terminal. */

import type { Flag, Flags } from './flags.ts';
import { sharedFlags } from './flags.ts';

export interface CommandHelp {
  name: string;
  summary: string;
  /** Positional arguments, as in `NAME` or `FILE…`. */
  usage?: string;
  flags: Flags;
  /** Paragraphs after the flags. */
  notes?: readonly string[];
  /** Whole command lines, without `narswarm`. */
  examples?: readonly string[];
}

/** Lines longer than this are hard to read, however wide the terminal is. */
const widthMax = 100;
/** Narrower than this, wrapping makes things worse. */
const widthMin = 60;

export function printCommandHelp(command: CommandHelp, columns: number | undefined): string {
  const width = clampWidth(columns);
  const usage = command.usage === undefined ? '' : ` ${command.usage}`;
  const rows = Object.entries({ ...command.flags, ...sharedFlags }).map(([name, flag]) =>
    flagRow(name, flag),
  );
  const parts = [
    wrap(`narswarm ${command.name}: ${command.summary}`, width, 0),
    `Usage: narswarm ${command.name}${usage} [flags]`,
    `Flags:\n${printRows(rows, width)}`,
    ...(command.notes ?? []).map((note) => wrap(note, width, 0)),
  ];
  const examples = (command.examples ?? []).map((example) => `  narswarm ${example}`);
  if (examples.length > 0) parts.push(`For example:\n${examples.join('\n')}`);
  return `${parts.join('\n\n')}\n`;
}

export function printProgramHelp(
  commands: readonly { name: string; summary: string }[],
  columns: number | undefined,
): string {
  const width = clampWidth(columns);
  const rows = commands.map(({ name, summary }): Row => [name, summary]);
  const own: Row[] = [
    ['--help', 'show this; `narswarm COMMAND --help` shows the flags of a command'],
    ['--version', 'show the version'],
  ];
  return `${[
    'narswarm: BitTorrent for the Nix binary cache',
    'Usage: narswarm COMMAND [flags]',
    `Commands:\n${printRows(rows, width)}`,
    `Flags:\n${printRows(own, width)}`,
    wrap(
      'Sizes take KiB, MiB, GiB or TiB; times s, min, h or d; addresses are HOST:PORT or [IPV6]:PORT.',
      width,
      0,
    ),
    wrap(
      'Exit status: 0 when all went well or the program was asked to stop, 2 when the command line or the configuration is wrong, 1 for anything else.',
      width,
      0,
    ),
  ].join('\n\n')}\n`;
}

type Row = readonly [left: string, right: string];

function flagRow(name: string, flag: Flag<unknown>): Row {
  const left = flag.value === undefined ? `--${name}` : `--${name} ${flag.value}`;
  const defaults = flag.defaults.length === 0 ? '' : ` (default: ${flag.defaults.join(', ')})`;
  return [left, `${flag.help}${flag.repeats ? '; may be repeated' : ''}${defaults}`];
}

function printRows(rows: readonly Row[], width: number): string {
  const indent = 4 + Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(indent - 2)}${wrap(right, width, indent)}`).join('\n');
}

/** Breaks between words; every line but the first starts with `indent` spaces. */
function wrap(text: string, width: number, indent: number): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    const longer = line === '' ? word : `${line} ${word}`;
    if (line !== '' && indent + longer.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = longer;
    }
  }
  lines.push(line);
  return lines.join(`\n${' '.repeat(indent)}`);
}

function clampWidth(columns: number | undefined): number {
  return Math.min(widthMax, Math.max(widthMin, columns ?? widthMax));
}
