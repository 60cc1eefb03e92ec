/** What the client tells Prometheus: the figures of its status. */

import { Metrics } from '../web/metrics.ts';
import type { HeldFiles } from './cache.ts';
import type { Counts } from './counts.ts';

export function makeClientMetrics(counts: Counts, held: HeldFiles, uploadedBytes: () => number): Metrics {
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
  metrics.callback('counter', 'narswarm_uploaded_bytes', 'bytes given to peers', uploadedBytes);
  return metrics;
}
