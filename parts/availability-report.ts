/** The report of a catalog's availability, a line or row at a time: for people, for programs (JSON), and for spreadsheets (CSV). */

import { setImmediate } from 'node:timers/promises';
import type { Sha256 } from '../nar/hash.ts';
import { printBytes } from '../web/page.ts';
import { type Availability, seedsMax } from './availability.ts';

export const reportFormats = ['text', 'json', 'csv'] as const;
export type ReportFormat = (typeof reportFormats)[number];

/** Which NAR files a report lists. */
export const reportKinds = ['all', 'safe', 'endangered'] as const;

/** A century: more is a mistake. */
export const reportDaysMax = 36_500;

/** What is asked of a report. */
export interface ReportRule {
  /** So many seeds, for so long, and a NAR file may be deleted elsewhere. */
  readonly seeds: number;
  readonly days: number;
  readonly only: (typeof reportKinds)[number];
}

/** A NAR file that the catalog still has. */
export interface ReportedNar {
  readonly fileHash: Sha256;
  readonly fileSize: number;
  /** One of the store paths in it, if any is known. */
  readonly storePath: string | undefined;
}

/** `safe` by the rule; `endangered`: nobody else has it. */
export type NarState = 'safe' | 'seeded' | 'endangered';

export interface ReportRow extends ReportedNar {
  readonly state: NarState;
  /** At the last look, `seedsMax` for so many or more. */
  readonly seeds: number;
  /** Milliseconds since 1970, from when on it had so many at every look; missing without any. */
  readonly sinceMs: number | undefined;
}

interface Sum {
  nars: number;
  bytes: number;
}

const dayMs = 24 * 3_600_000;
/** Rows between which others get their turn: some 5 ms of looking things up. */
const turnRows = 64;
/** NAR files that the text lists; whoever wants all takes another format. */
const listedMax = 20;

export interface ReportSource {
  readonly availability: Availability;
  /** `undefined` for an ordinal that is nobody's any more, as after a revocation. */
  nar(ordinal: number): ReportedNar | undefined;
  readonly nowMs: number;
  /** What counts as a seed, for people. */
  readonly counted: string;
}

/** Every NAR file of the catalog, in the order of the ordinals. */
export async function* reportRows(source: ReportSource, rule: ReportRule): AsyncGenerator<ReportRow> {
  const level = Math.min(rule.seeds, seedsMax) - 1;
  for await (const { ordinal, sinceMs } of source.availability.times()) {
    if (ordinal % turnRows === turnRows - 1) await setImmediate();
    const nar = source.nar(ordinal);
    if (nar === undefined) continue;
    const seeds = sinceMs.filter((since) => since > 0).length;
    const long = sinceMs[level] ?? 0;
    const safe = long > 0 && source.nowMs - long >= rule.days * dayMs;
    const state = seeds === 0 ? 'endangered' : safe ? 'safe' : 'seeded';
    yield { ...nar, state, seeds, sinceMs: seeds === 0 ? undefined : sinceMs[seeds - 1] };
  }
}

/** The report as text to be sent, in pieces. */
export async function* printReport(
  source: ReportSource,
  rule: ReportRule,
  format: ReportFormat,
): AsyncGenerator<string> {
  const sums: Record<NarState, Sum> = {
    safe: { nars: 0, bytes: 0 },
    seeded: { nars: 0, bytes: 0 },
    endangered: { nars: 0, bytes: 0 },
  };
  const bySeeds = Array.from({ length: seedsMax + 1 }, (): Sum => ({ nars: 0, bytes: 0 }));
  const listed: ReportRow[] = [];
  let more = 0;
  if (format === 'csv') yield 'file_hash,file_size,state,seeds,since,store_path\n';
  if (format === 'json') yield '{"nars":[';
  let first = true;
  for await (const row of reportRows(source, rule)) {
    for (const sum of [sums[row.state], bySeeds[row.seeds]]) {
      if (sum === undefined) continue;
      sum.nars++;
      sum.bytes += row.fileSize;
    }
    if (rule.only !== 'all' && rule.only !== row.state) continue;
    if (format === 'csv') yield csvLine(row);
    else if (format === 'json') {
      yield `${first ? '' : ','}\n${JSON.stringify(jsonOf(row))}`;
      first = false;
    } else if (rule.only !== 'all' || row.state === 'endangered') {
      if (listed.length < listedMax) listed.push(row);
      else more++;
    }
  }
  const lookedMs = source.availability.lookedMs;
  if (format === 'json') {
    const looked = lookedMs === 0 ? null : new Date(lookedMs).toISOString();
    const { seeds, days } = rule;
    yield `\n],"rule":${JSON.stringify({ seeds, days })},"looked":${JSON.stringify(looked)},`;
    yield `"sums":${JSON.stringify(sums)},"bySeeds":${JSON.stringify(bySeeds)}}\n`;
  }
  if (format === 'text')
    yield textOf({ rule, sums, bySeeds, listed, more, lookedMs, counted: source.counted });
}

function jsonOf({ fileHash, fileSize, storePath, state, seeds, sinceMs }: ReportRow): object {
  const since = sinceMs === undefined ? null : new Date(sinceMs).toISOString();
  return { fileHash, fileSize, state, seeds, since, storePath: storePath ?? null };
}

/** No value has a comma or a quote: hashes, numbers, times, and store paths, whose names Nix allows none in. */
function csvLine({ fileHash, fileSize, storePath, state, seeds, sinceMs }: ReportRow): string {
  const since = sinceMs === undefined ? '' : new Date(sinceMs).toISOString();
  return `${fileHash},${fileSize},${state},${seeds},${since},${storePath ?? ''}\n`;
}

function textOf(parts: {
  rule: ReportRule;
  sums: Record<NarState, Sum>;
  bySeeds: readonly Sum[];
  listed: readonly ReportRow[];
  more: number;
  lookedMs: number;
  counted: string;
}): string {
  const { rule, sums, bySeeds, listed, more, lookedMs, counted } = parts;
  if (lookedMs === 0)
    return 'The seeds were not counted yet: that begins an hour after the start, when mirrors had time to come.\n';
  const { safe, endangered } = sums;
  const lines = [
    `Counted last at ${new Date(lookedMs).toISOString()}. ${counted}`,
    '',
    `safe to delete elsewhere, with ${rule.seeds} or more seeds for ${rule.days} days or more: ${sumText(safe)}`,
    `about to be lost, with no seed but this program: ${sumText(endangered)}`,
    '',
    'seeds  NAR files  size',
    ...bySeeds.map((sum, seeds) => {
      const label = seeds === seedsMax ? `${seeds}+` : `${seeds}`;
      return `${label.padStart(5)}  ${`${sum.nars}`.padStart(9)}  ${printBytes(sum.bytes)}`;
    }),
  ];
  if (listed.length > 0) {
    lines.push('', rule.only === 'safe' ? 'safe to delete:' : 'about to be lost:');
    for (const { fileHash, fileSize, storePath } of listed)
      lines.push(`  ${fileHash}  ${printBytes(fileSize)}  ${storePath ?? ''}`.trimEnd());
    if (more > 0) lines.push(`  and ${more} more; --format csv lists all`);
  }
  return `${lines.join('\n')}\n`;
}

function sumText({ nars, bytes }: Sum): string {
  return `${nars} NAR files, ${printBytes(bytes)}`;
}
