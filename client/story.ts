/** How a NAR file came: what is kept of each fetch, to be shown to whoever asks why. Data and words only. */

import type { Sha256 } from '../nar/hash.ts';
import type { StoreHash } from '../nar/store-path.ts';

/** Why a source was asked, each in one plain sentence. A closed set: it is stored, counted and shown. */
export const legReasons = {
  'tiny-warm': 'The NAR file is tiny, and a peer was connected that could give it at once.',
  'tiny-cold': 'The NAR file is tiny, and no peer was connected that could give it at once.',
  'peers-known': 'Its torrent and peers were known when it was asked for.',
  'peers-unknown': 'No torrent or no peers were known when it was asked for, so HTTP did not wait for them.',
  'peers-found': 'Its torrent and peers became known while HTTP gave it.',
  'no-http': 'There was no HTTP source to ask, so the swarm was waited for.',
  'no-live-peer': 'No peer could give anything within the first moments.',
  late: 'The source before it was silent for longer than it usually is.',
  slow: 'The source before it gave more slowly than it usually does, or than this one usually does.',
  failed: 'The source before it failed.',
  absent: 'The source before it did not have the file.',
  wrong: 'The source before it gave wrong bytes.',
  again: 'All that was fetched before was wrong and thrown away.',
} as const;

export type LegReason = keyof typeof legReasons;

/** Legs of one story that are kept; what comes after them is not. */
export const storyLegsMax = 16;
/** Peers of one leg that are named. */
export const storyPeersMax = 8;
/** Characters of an error that are kept. */
export const storyErrorMaxCharacters = 300;

/** How one NAR file came, or why it did not. */
export interface NarStory {
  readonly fileHash: Sha256;
  readonly storeHash: StoreHash;
  readonly storePath: string;
  readonly sizeBytes: number | undefined;
  /** Milliseconds since 1970. */
  readonly startedMs: number;
  readonly tookMs: number;
  readonly outcome: 'fetched' | 'failed' | 'stopped';
  /** Fetched before Nix asked for it. */
  readonly ahead: boolean;
  /** In the order in which they started, at most `storyLegsMax`. */
  readonly legs: readonly StoryLeg[];
  /** What HTTP alone would have taken: measured if HTTP gave all of it, else from that upstream's past; missing while nothing is known of it. */
  readonly httpMs?: number;
}

/** One source's part in it. Times in milliseconds after the story's start. */
export interface StoryLeg {
  /** `swarm`, `pack`, or the URL of a cache. */
  readonly source: string;
  readonly kind: 'swarm' | 'http';
  readonly why: LegReason;
  /** Offset in the file at which it began. */
  readonly fromByte: number;
  readonly startedMs: number;
  readonly firstByteMs?: number;
  readonly endedMs: number;
  readonly usedBytes: number;
  /** What it gave that another source had given before. */
  readonly unusedBytes: number;
  readonly end: LegEnd;
  /** Code and message. */
  readonly error?: string;
  /** Who gave bytes, `host:port`, at most `storyPeersMax`. */
  readonly peers?: readonly string[];
}

/** `beaten`: another one was faster. `absent`: it does not have the file. `stopped`: nobody wanted the file any more. */
export type LegEnd = 'finished' | 'beaten' | 'failed' | 'absent' | 'stopped';
