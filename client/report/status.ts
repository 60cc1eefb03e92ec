/** What a client tells of itself at this moment: `/_narswarm/status`. */

import type { ShareMode } from '../config.ts';
import type { Counts } from '../counts.ts';
import type { Views } from '../narinfo/views.ts';
import type { Share } from '../share/share.ts';
import type { Traffic } from '../share/traffic.ts';
import type { HeldFiles } from '../state/cache.ts';
import type { ClientState } from '../state/state.ts';
import type { SourceTotals } from './source-totals.ts';
import { clientSummary, type SummaryOf } from './summary.ts';

/** More than is named here. */
export interface ClientStatus {
  /** The same in words, a line each. */
  readonly summary: readonly string[];
  readonly role: string;
  readonly bytes: Readonly<Counts['bytes']>;
  readonly nars: Readonly<Counts['nars']>;
  readonly [more: string]: unknown;
}

export interface StatusOf {
  counts: Counts;
  totals: SourceTotals;
  traffic: Traffic;
  share: Share | undefined;
  mode: ShareMode;
  held: HeldFiles;
  state: ClientState;
  views: Views;
  upstreams: { status(): SummaryOf['upstreams'] };
  catalogs: { status(): SummaryOf['catalogs'] };
  /** What tells of itself in its own words, under its name. */
  others: Readonly<Record<string, { status(): unknown }>>;
  clock: () => number;
}

export function clientStatus(of: StatusOf): ClientStatus {
  const { counts, mode } = of;
  const [share, traffic] = [of.share?.status(), of.traffic.status()];
  const [upstreams, catalogs, views] = [of.upstreams.status(), of.catalogs.status(), of.views.status()];
  const { bytes, nars, failed, wrong, savedTotalMs } = counts;
  const told = { bytes, nars, failed, wrong, traffic, upstreams, catalogs, views };
  return {
    summary: clientSummary({ ...told, savedMs: savedTotalMs, share, clock: of.clock }),
    role: 'client',
    ...told,
    unusedBytes: counts.unusedBytes,
    savedMs: { ...counts.savedMs, total: savedTotalMs },
    passedThrough: counts.passedThrough,
    narinfos: counts.narInfos,
    share: share ?? { enabled: false, mode, uploadedBytes: 0 },
    sources: of.totals.status(),
    cache: of.held.status(),
    state: of.state.counts(),
    ...Object.fromEntries(Object.entries(of.others).map(([name, part]) => [name, part.status()])),
  };
}
