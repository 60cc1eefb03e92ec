/** What a client did and does, in a few sentences: the first lines of its status and its page. Pure. */

import { printBytes } from '../../web/page.ts';
import type { ViewStatus } from '../narinfo/views.ts';
import type { UploadPause } from '../share/upload-allowance.ts';

export interface SummaryOf {
  nars: Readonly<{ swarm: number; http: number; mixed: number; held: number }>;
  bytes: Readonly<{ swarm: number; http: number; held: number }>;
  /** Against HTTP alone; negative when it was lost. */
  savedMs: number;
  failed: number;
  wrong: number;
  share: SharedSummary | undefined;
  traffic: Readonly<{ uploadedBytes: number; downloadedBytes: number; ratio?: number }>;
  upstreams: readonly Readonly<Source>[];
  catalogs: readonly Readonly<{ url: string; state: string }>[];
  views: readonly ViewStatus[];
  clock: () => number;
}

interface Source {
  url: string;
  state: string;
  /** It serves another store directory than the rest. */
  foreignStore?: boolean;
}

export interface SharedSummary {
  mode: 'lan' | 'on';
  paused: UploadPause | false;
  connections: number;
}

const pauses: Readonly<Record<UploadPause, string>> = {
  metered: 'the connection is metered',
  quota: 'the upload quota of this month is used up',
  schedule: 'the schedule says so',
};

/** Less than this, either way, is nothing that anybody notices. */
const noticedMs = 50;

export function clientSummary(of: SummaryOf): string[] {
  return [
    narLine(of),
    bytesLine(of),
    ...troubleLines(of),
    shareLine(of),
    ...sourceLines(of),
    ...viewLines(of),
  ];
}

function narLine({ nars, savedMs }: SummaryOf): string {
  const all = nars.swarm + nars.mixed + nars.http + nars.held;
  if (all === 0) return 'No NAR was asked for since this client was started.';
  const parts = [
    [nars.swarm, 'from peers'],
    [nars.mixed, 'from peers and over HTTP'],
    [nars.http, 'over HTTP'],
    [nars.held, 'held'],
  ] as const;
  const words = parts.filter(([count]) => count > 0).map(([count, what]) => `${number(count)} ${what}`);
  return `${number(all)} NAR${all === 1 ? '' : 's'}: ${words.join(', ')}${comparedWords(savedMs)}.`;
}

function comparedWords(savedMs: number): string {
  if (Math.abs(savedMs) < noticedMs) return '';
  return `; ${seconds(Math.abs(savedMs))} ${savedMs > 0 ? 'faster' : 'SLOWER'} than HTTP alone`;
}

function bytesLine({ bytes }: SummaryOf): string {
  const { swarm, http, held } = bytes;
  return `${printBytes(swarm)} came from peers, ${printBytes(http)} over HTTP, ${printBytes(held)} were here.`;
}

function troubleLines({ failed, wrong }: SummaryOf): string[] {
  const lines: string[] = [];
  if (failed > 0)
    lines.push(`${number(failed)} could be had from nobody: Nix went on to its next substituter.`);
  if (wrong > 0) lines.push(`Wrong bytes were thrown away ${number(wrong)} time${wrong === 1 ? '' : 's'}.`);
  return lines;
}

function shareLine({ share, traffic }: SummaryOf): string {
  if (share === undefined) return 'Nothing is shared.';
  const whom = share.mode === 'lan' ? 'the local network' : 'everybody';
  const { uploadedBytes, downloadedBytes, ratio } = traffic;
  const of = ratio === undefined ? '' : `, a ratio of ${ratio.toFixed(2)}`;
  const all = `${printBytes(uploadedBytes)} given to peers and ${printBytes(downloadedBytes)} taken in all${of}`;
  if (share.paused !== false) return `Sharing with ${whom} pauses: ${pauses[share.paused]}. ${all}.`;
  const peers = `${number(share.connections)} peer${share.connections === 1 ? '' : 's'} connected`;
  return `Shared with ${whom}: ${peers}, ${all}.`;
}

function sourceLines({ upstreams, catalogs }: SummaryOf): string[] {
  return [...listLine('Upstream', upstreams), ...listLine('Catalog', catalogs)];
}

function listLine(what: string, sources: readonly Readonly<Source>[]): string[] {
  if (sources.length === 0) return [];
  const words = sources.map(({ url, state, foreignStore }) => {
    if (foreignStore) return `${url} serves ANOTHER STORE DIRECTORY and is left out`;
    return `${url} ${state === 'resting' ? 'DOES NOT ANSWER' : 'is asked'}`;
  });
  return [`${what}${sources.length === 1 ? '' : 's'}: ${words.join(', ')}.`];
}

function viewLines({ views, clock }: SummaryOf): string[] {
  return views.map(({ name, paths, expiresMs, error }) => {
    if (error !== undefined) return `View ${name}: NOT used or not brought up to date: ${error}.`;
    if (expiresMs !== undefined && expiresMs <= clock()) return `View ${name}: EXPIRED, and not used.`;
    return `View ${name}: ${number(paths)} paths answered without the network.`;
  });
}

function number(count: number): string {
  return count.toLocaleString('en-US');
}

function seconds(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  const value = ms / 1_000;
  if (value < 120) return `${value < 10 ? value.toFixed(1) : Math.round(value)} s`;
  return value < 7_200 ? `${Math.round(value / 60)} min` : `${(value / 3_600).toFixed(1)} h`;
}
