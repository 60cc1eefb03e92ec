/** What the client is told at start, and every limit it keeps. */

import type { PublicKey } from '../nar/signature.ts';
import type { ScheduledRate } from '../parts/upload-schedule.ts';
import type { Logger } from '../web/log.ts';

/** With whom what is fetched and kept is shared: nobody, the local network, or everybody. */
export const shareModes = ['off', 'lan', 'on'] as const;
export type ShareMode = (typeof shareModes)[number];

export interface ClientConfig {
  /** Holds the state database and the NAR files; made if it is missing. */
  dataDir: string;
  /**
   * Base URLs of binary caches, perhaps with `?priority=N`. As Nix has it, the one with the lowest priority is asked first: the one given
   * here, or that of its nix-cache-info; among equals in this order.
   */
  upstreams: string[];
  /** File with what upstreams want to be told before they answer, in the format of netrc. */
  netrc?: string | undefined;
  /** Base URLs of seeders and mirrors. */
  catalogs: string[];
  /** Keys that a torrentinfo must be signed with. Without one, no catalog may be named. */
  catalogKeys: PublicKey[];
  /** Names of views of the catalogs that are held whole, so that what is in them is answered without the network. */
  views?: readonly string[];
  /** Keys of caches: what they signed may be shared. */
  trustedKeys: PublicKey[];
  http: { host: string; port: number };
  /** Where peers are served from unless `share` is off. */
  peers: { host: string; port: number };
  /** What the NAR files that are kept may take on disk. */
  cacheSizeBytes: number;
  share: ShareMode;
  /** UDP port of local discovery, for tests: the one that everybody uses by default. */
  localDiscoveryPort?: number;
  /** What sharing may take, in bytes, while no schedule says otherwise; no limit without it. */
  uploadBytesPerSecond?: number | undefined;
  schedules?: readonly ScheduledRate[];
  /** What sharing may upload in a calendar month; no limit without it. */
  uploadQuotaBytes?: number | undefined;
  /** Whether sharing goes on where the connection is paid for by the byte. */
  onMetered?: 'pause' | 'share';
  /** How often and in which environment NetworkManager is asked for that; for tests. */
  metered?: { everyMs?: number; env?: NodeJS.ProcessEnv };
  /** The name under which other machines reach this one: that of `peers` in what is shown, as a tracker goes by the sender's address, and one for its pages. */
  publicHost?: string;
  /** Take narinfos and NAR files from the catalogs and their swarms alone. */
  noUpstream: boolean;
  logger: Logger;
  limits?: Partial<ClientLimits>;
  /** Milliseconds since the epoch; for tests. */
  clock?: () => number;
}

/** When a source of a NAR file is late. Times in milliseconds. */
export interface RaceLimits {
  /** Within this a peer must be able to give before HTTP is asked as well. */
  liveWithinMs: number;
  /** A source that is waited for is never late within this: the computer itself may be busy for so long. */
  lateLeastMs: number;
  /** It is late after this, however slow it has been. */
  lateMostMs: number;
  /** To the first byte while nothing is known of the source: half the world away and a busy server. */
  lateFirstByteMs: number;
  /** Between bytes while nothing is known of the source: a lost packet. */
  lateGapMs: number;
}

export const raceLimits: Readonly<RaceLimits> = {
  liveWithinMs: 20,
  lateLeastMs: 100,
  lateMostMs: 2_000,
  lateFirstByteMs: 400,
  lateGapMs: 250,
};

/** Times in milliseconds, sizes in bytes. */
export interface ClientLimits extends RaceLimits {
  /** For a narinfo from all sources together. The promise is 404 within 2 s; the rest is for the answer itself. */
  narInfoBudgetMs: number;
  /** The longest that a source of narinfos is waited for before the next is asked as well. */
  narInfoHedgeMs: number;
  /**
   * How long a narinfo of a source is given again without asking. A cache may upload a path anew under another URL; whoever meets
   * a URL that is gone makes us ask, so this is only as long as a few machines take to update one after the other.
   */
  narInfoFreshMs: number;
  /** How long a path that no source has is not asked for again. Short, as a build may be uploaded any minute; Nix itself remembers for an hour. */
  narInfoAbsentMs: number;
  /** Narinfos kept in memory, those of a large closure, and the characters of them together: 3 KiB each parsed, so 32 MiB at most. */
  narInfosInMemory: number;
  narInfosInMemoryCharacters: number;
  /** Of those of views that left the memory: that they are written down, so that they are not again. 100 bytes each. */
  narInfosWritten: number;
  /** Paths kept that no source has, 100 bytes each. */
  absentPaths: number;
  /** For finding torrent and peers while HTTP runs, and the longest for which bytes are held meanwhile: a good catalog takes a tenth. */
  resolveBudgetMs: number;
  /** The same when there is no HTTP to start: waiting is then all that can be done. */
  resolvePatienceMs: number;
  /** For one request to a catalog. Longer than the budget: a late answer serves the next NAR file. */
  resolveDeadlineMs: number;
  /** Paths of a closure that are looked up in the views at once, the nearest ones first: 50 ms of work, and one question to each catalog. */
  aheadWalkPaths: number;
  /** Narinfos that Nix asked for and whose NAR files it may ask for, 3 KiB each, and the characters of them together: one may have 4 MiB. */
  aheadNoted: number;
  aheadNotedCharacters: number;
  /** How long it may: a large closure takes minutes. */
  aheadNotedMs: number;
  /** NAR files up to this size are fetched before Nix asks for them; those of packs are no larger. */
  aheadFileBytes: number;
  /** Of these, so many at once at first. */
  aheadFirstFetches: number;
  /** And so many when they come: with the 25 of Nix as many as a 50 ms path answers at 2,500 a second. */
  aheadFetches: number;
  /** Of these over HTTP: as many as Nix asks for itself, and both together no more than are asked of one host at once. */
  aheadHttpFetches: number;
  /** These wait so long for catalogs to name a peer, and for the peer: three round trips of a long road, and what a busy catalog takes. */
  aheadCatalogMs: number;
  /** None is begun while so many fetches run or end, for whomever: half of what the client does at once. */
  aheadLoad: number;
  /** Those that are whole and still in memory when Nix asks; more lie on the disk. */
  aheadOpen: number;
  /** Bytes of them, fetched or being fetched, that Nix has not asked for: all that can have been in vain when it stops. */
  aheadBytes: number;
  /** Between looks at what is to be fetched next: 5 ms of work for as many narinfos as are noted. */
  aheadLineMs: number;
  /** Nix has stopped when it did not ask for a NAR file for this long. */
  aheadQuietMs: number;
  /** Peers are asked for again after this long. */
  peersFreshMs: number;
  /** What catalogs signed and nobody wanted to know is looked at when Nix has asked for nothing for this long. */
  catalogQuietMs: number;
  /** A catalog that failed is left alone for this long, so that a dead one does not delay every NAR file. */
  catalogCooldownMs: number;
  /** Without a byte from the swarm for this long, it has failed. HTTP has been asked before, when it was late. */
  swarmStallMs: number;
  /** The same when there is no HTTP to go on with. */
  swarmPatienceMs: number;
  /** Without a byte from an HTTP source for this long, another source goes on. Nix itself waits 300 s. */
  httpStallMs: number;
  /** The same until the first byte from one that has been silent of late: another substituter of Nix may have it. */
  restingStallMs: number;
  /** The same from whoever was waited for in vain for this very NAR file: Nix asks up to five times, and is to go on. */
  hungStallMs: number;
  /** A fetch that nobody reads any more goes on for this long, as Nix comes back after a broken connection. */
  lingerMs: number;
  /** A fetch that nobody reads is finished all the same when no more than this is missing. */
  nearlyDoneBytes: number;
  /** Attempts for one NAR file, over all sources: one bad evening of a network, and no endless loop. */
  attempts: number;
  /** Attempts that gave so many bytes do not count: what breaks often and goes on each time ends, too. */
  attemptWorthBytes: number;
  /** Attempts in a row with one source that yield nothing, before it is given up for this NAR file. */
  attemptsPerSource: number;
  /** The same with a swarm when there is nobody else: of connections that break every third time six in a row are rare, and take 1.5 s. */
  attemptsOfLastSwarm: number;
  /** How long a source that gave wrong bytes is not asked again for the same NAR file. */
  badSourceMs: number;
  /** For asking a source's nix-cache-info before the remembered or default one is given. */
  cacheInfoBudgetMs: number;
  /** After so many milliseconds a cache with another store directory than the rest, or that did not say one, is asked for it again: somebody may have put it right. */
  cacheInfoAgainMs: number;
  /** Narinfos remembered: 2 KiB each, so about 400 MiB of database at most. */
  narInfos: number;
  /** Stories of fetches that are kept: 1 KiB each, so about 20 MiB of database. */
  stories: number;
  /** Torrents remembered: mostly under 2 KiB each. */
  torrents: number;
  /** Held NAR files that are announced, the most recently used ones: a full round within the tracker's usual 30 minutes. */
  announcedTorrents: number;
  announcesPerMinute: number;
  /** Torrents that others of the local network were heard to have: about 300 bytes each. */
  localTorrents: number;
  /** How many of those who have one are remembered: more than a fetch connects to. */
  localPeersOfTorrent: number;
  /** The same for all torrents together, about 250 bytes each, and for one torrent at one address: whoever names more ports there makes them up. */
  localPeers: number;
  localPortsOfPeer: number;
  /** How long somebody of the local network is taken to have what he said: as long as trackers let announces live. */
  localPeersMs: number;
  /** So many that said lately that they have it are enough: this machine need not say it as well. */
  localAnswers: number;
  /** How long answers from the local network are waited for, when nothing else is to be had: two hundred times a packet's way there and back. */
  localAnswerMs: number;
  /** After so many milliseconds a torrent is announced to the local network again, in one packet for many each so many: as BEP 14 has it. */
  localRepeatMs: number;
  localRepeatPacketMs: number;
}

export const defaultLimits: Readonly<ClientLimits> = {
  ...raceLimits,
  narInfoBudgetMs: 1_700,
  narInfoHedgeMs: 400,
  narInfoFreshMs: 10 * 60_000,
  narInfoAbsentMs: 10_000,
  narInfosInMemory: 5_000,
  narInfosInMemoryCharacters: 16 * 1024 * 1024,
  narInfosWritten: 40_000,
  absentPaths: 10_000,
  resolveBudgetMs: 500,
  resolvePatienceMs: 5_000,
  resolveDeadlineMs: 5_000,
  aheadWalkPaths: 1_000,
  aheadNoted: 5_000,
  aheadNotedCharacters: 16 * 1024 * 1024,
  aheadNotedMs: 10 * 60_000,
  aheadFileBytes: 1024 * 1024,
  aheadFirstFetches: 8,
  aheadFetches: 100,
  aheadHttpFetches: 25,
  aheadCatalogMs: 1_000,
  aheadLoad: 128,
  aheadOpen: 1_000,
  aheadBytes: 32 * 1024 * 1024,
  aheadLineMs: 200,
  aheadQuietMs: 2_000,
  peersFreshMs: 60_000,
  catalogQuietMs: 1_000,
  catalogCooldownMs: 5_000,
  swarmStallMs: 500,
  swarmPatienceMs: 5_000,
  httpStallMs: 10_000,
  restingStallMs: 2_000,
  hungStallMs: 500,
  lingerMs: 2_000,
  nearlyDoneBytes: 4 * 1024 * 1024,
  attempts: 32,
  attemptWorthBytes: 256 * 1024,
  attemptsPerSource: 3,
  attemptsOfLastSwarm: 6,
  badSourceMs: 10 * 60_000,
  cacheInfoBudgetMs: 1_000,
  cacheInfoAgainMs: 10 * 60_000,
  narInfos: 200_000,
  stories: 20_000,
  torrents: 100_000,
  announcedTorrents: 1_500,
  announcesPerMinute: 60,
  localTorrents: 10_000,
  localPeersOfTorrent: 20,
  localPeers: 20_000,
  localPortsOfPeer: 8,
  localPeersMs: 30 * 60_000,
  localAnswers: 5,
  localAnswerMs: 200,
  localRepeatMs: 5 * 60_000,
  localRepeatPacketMs: 60_000,
};
