/** What `narswarm up` says on the terminal: a line of progress while it works, a table of what came from where. */

import type { ClosureProgress } from './fetch-closure.ts';

/** A terminal is redrawn this often; a log file gets a line this often. */
const redrawMs = 100;
const logMs = 5_000;

/** Shows `text` in place on a terminal, or now and then on a line of its own elsewhere. */
export class ProgressLine {
  readonly #stream: NodeJS.WriteStream;
  #shownMs = 0;
  #width = 0;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  show(text: string, nowMs: number): void {
    const terminal = this.#stream.isTTY;
    if (nowMs - this.#shownMs < (terminal ? redrawMs : logMs)) return;
    this.#shownMs = nowMs;
    this.#stream.write(terminal ? `\r${text.padEnd(this.#width)}` : `${text}\n`);
    this.#width = text.length;
  }

  /** Leaves `text` standing as the last word on this work. */
  finish(text: string): void {
    this.#stream.write(this.#stream.isTTY ? `\r${text.padEnd(this.#width)}\n` : `${text}\n`);
    this.#width = 0;
    this.#shownMs = 0;
  }
}

export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

export interface SourceRow {
  source: string;
  nars: number;
  bytes: number;
}

/** The table of where a closure came from. */
export function sourceTable(rows: SourceRow[], closure: ClosureProgress, elapsedMs: number): string {
  const line = (source: string, nars: string, bytes: string): string =>
    `  ${source.padEnd(10)}${nars.padStart(8)}${bytes.padStart(14)}`;
  const rate = formatBytes((closure.bytes / Math.max(elapsedMs, 1)) * 1000);
  return [
    line('source', 'NARs', 'bytes'),
    ...rows.map((row) => line(row.source, String(row.nars), formatBytes(row.bytes))),
    line('all', String(closure.fetched), formatBytes(closure.bytes)),
    `  in ${(elapsedMs / 1000).toFixed(1)} s, ${rate}/s`,
  ].join('\n');
}
