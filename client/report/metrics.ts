/** What the client tells Prometheus: the figures of its status. */

import { Metrics } from '../../web/metrics.ts';
import type { Counts } from '../counts.ts';
import type { Share } from '../share/share.ts';
import type { Traffic } from '../share/traffic.ts';
import type { HeldFiles } from '../state/cache.ts';
import type { SourceTotal, SourceTotals } from './source-totals.ts';

export interface MetricsOf {
  counts: Counts;
  held: HeldFiles;
  totals: SourceTotals;
  traffic: Traffic;
  /** Missing when nothing is shared. */
  share(): Pick<ReturnType<Share['status']>, 'uploadedBytes' | 'paused' | 'connections'> | undefined;
  /** Upstreams, then catalogs. */
  sources(): readonly { url: string; state: string }[];
  views(): readonly { name: string; paths: number }[];
}

export function makeClientMetrics({
  counts,
  held,
  totals,
  traffic,
  share,
  sources,
  views,
}: MetricsOf): Metrics {
  const metrics = new Metrics();
  const bySource = (values: Record<string, number>) => () =>
    Object.entries(values).map(([source, value]) => ({ labels: { source }, value }));
  metrics.callback(
    'counter',
    'narswarm_nar_bytes',
    'bytes of NAR files, by where they came from',
    bySource(counts.bytes),
  );
  metrics.callback(
    'counter',
    'narswarm_nars_total',
    'NAR files, by where they came from',
    bySource(counts.nars),
  );
  metrics.callback(
    'counter',
    'narswarm_nars_failed',
    'NAR files that no source could give',
    () => counts.failed,
  );
  metrics.callback(
    'counter',
    'narswarm_nars_wrong',
    'times that wrong bytes were thrown away',
    () => counts.wrong,
  );
  metrics.callback('counter', 'narswarm_narinfos_total', 'narinfos asked for, by outcome', () =>
    Object.entries(counts.narInfos).map(([outcome, value]) => ({ labels: { outcome }, value })),
  );
  metrics.callback('gauge', 'narswarm_held_bytes', 'NAR files that are kept', () => held.status().bytes);
  metrics.callback('gauge', 'narswarm_held_files', 'NAR files that are kept', () => held.status().files);
  metrics.callback(
    'counter',
    'narswarm_uploaded_bytes',
    'bytes given to peers',
    () => share()?.uploadedBytes ?? 0,
  );
  const ofSources = (value: (total: SourceTotal) => number) => () =>
    totals.status().map((total) => ({ labels: { source: total.source }, value: value(total) }));
  metrics.callback(
    'counter',
    'narswarm_source_used_bytes',
    'bytes of NAR files that a source gave first',
    ofSources(({ usedBytes }) => usedBytes),
  );
  metrics.callback(
    'counter',
    'narswarm_source_unused_bytes',
    'bytes of NAR files that another source had given before',
    ofSources(({ unusedBytes }) => unusedBytes),
  );
  metrics.callback(
    'counter',
    'narswarm_source_failures_total',
    'times that a source failed',
    ofSources(({ failed }) => failed),
  );
  metrics.callback(
    'gauge',
    'narswarm_saved_seconds',
    'time that NAR files took less than over HTTP alone, as far as that is known; negative when they took longer',
    () => counts.savedTotalMs / 1_000,
  );
  metrics.callback(
    'gauge',
    'narswarm_peer_connections',
    'connections of peers that are served',
    () => share()?.connections ?? 0,
  );
  metrics.callback(
    'gauge',
    'narswarm_share_active',
    '1 while something is shared, 0 while nothing is',
    () => {
      const now = share();
      return now !== undefined && now.paused === false ? 1 : 0;
    },
  );
  metrics.callback(
    'gauge',
    'narswarm_month_uploaded_bytes',
    'bytes given to peers in this calendar month',
    () => traffic.status().monthUploadedBytes,
  );
  metrics.callback('gauge', 'narswarm_source_up', '0 for an upstream or catalog that does not answer', () =>
    sources().map(({ url, state }) => ({ labels: { source: url }, value: state === 'resting' ? 0 : 1 })),
  );
  metrics.callback('gauge', 'narswarm_view_paths', 'store paths that are answered without the network', () =>
    views().map(({ name, paths }) => ({ labels: { view: name }, value: paths })),
  );
  return metrics;
}
