/** What a NAR file is fetched by: its sources, and what a race of them is told and tells. */

import type { NarswarmError } from '../../nar/errors.ts';
import type { Sha256 } from '../../nar/hash.ts';
import type { Torrent } from '../../swarm/torrent/torrent.ts';
import type { Logger } from '../../web/log.ts';
import type { ClientLimits } from '../config.ts';
import type { LegReason } from '../story.ts';
import type { Assembly } from './assembly.ts';
import type { BadSources } from './bad-sources.ts';
import type { NarSource } from './nar-source.ts';
import type { SourcePasts } from './source-past.ts';

/** What a fetch goes by. */
export interface NarPlan {
  /** Every byte is compared with it before it is released. */
  torrent: Torrent | undefined;
  /** Known at once, in the order in which they are preferred. */
  sources: readonly NarSource[];
  /** Tried when the others have failed. */
  lastResorts: readonly NarSource[];
  /** The torrent and sources that are being looked up. Never rejects. */
  later?: Promise<LaterPlan | undefined>;
  /** Milliseconds for which bytes are taken but not released while that is awaited. */
  holdMs?: number;
}

export type LaterPlan = Omit<NarPlan, 'torrent' | 'later' | 'holdMs'> & { torrent: Torrent };

export interface RaceOptions {
  plan: NarPlan;
  /** May have a beginning, all of which is released. */
  assembly: Assembly;
  fileHash: Sha256;
  /** FileSize, when it is known. */
  sizeBytes: number | undefined;
  /** Nobody waits for it yet. */
  ahead: boolean;
  limits: ClientLimits;
  logger: Logger;
  bad: BadSources;
  /** Sources that were waited for in vain. */
  hung: BadSources;
  /** Sources that gave other bytes than the torrent says: not asked as long as it is believed. */
  suspects: ReadonlySet<string>;
  pasts: SourcePasts;
  signal: AbortSignal;
  /** Why its first leg starts, if not for the usual reasons. */
  why?: LegReason;
  /** The size became known. */
  onSize(sizeBytes: number): void;
  /** Bytes of the file, each once. */
  onUsed(kind: 'swarm' | 'http', bytes: number): void;
  /** More was released. */
  onProgress(): void;
  /** A source gave wrong bytes. */
  onWrong(source: string, error: NarswarmError): void;
  /** The torrent is not of these bytes. */
  onWrongTorrent(): void;
}

/** `failure` is missing when the file is complete. `wrong`: sources of bytes that did not belong there. */
export interface RaceResult {
  failure?: NarswarmError;
  wrong: ReadonlySet<string>;
  /** The one that bytes were compared with. */
  torrent: Torrent | undefined;
  /** What came before that torrent was known is not what it says: from what was released one can go on with it. */
  startIsWrong: boolean;
}
