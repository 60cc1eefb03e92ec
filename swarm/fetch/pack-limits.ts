/** Every limit of the warm connections to packs, with its unit and the reason for its value. */

export interface PackLimits {
  /** Connections at once, over all packs: a closure's NAR files lie in a few dozen packs, with a peer or two each. */
  connections: number;
  /** Connections to one pack: one carries all that is wanted, others are for when it fails or is slow. */
  peersPerPack: number;
  /** Addresses that are taken note of for one pack. */
  addressesPerPack: number;
  /** Milliseconds until a connection must stand and show its handshake. Half a world away is 300 ms. */
  connectMs: number;
  /** A connection that nothing was wanted of for this long is closed: peers do so after two minutes. */
  idleMs: number;
  /** Milliseconds without a byte from a peer that owes some, after which it is left. Whoever waits may have gone on elsewhere before. */
  stallMs: number;
  /** Milliseconds over which the rate of a peer that owes something is looked at. */
  slowMs: number;
  /** Bytes a second below which such a peer is left: a modem's worth. */
  leastBytesPerSecond: number;
  /** Milliseconds after which one block must have come, whatever else the peer sends: it must not starve one NAR file by serving others. */
  blockMs: number;
  /** Blocks that are asked of a peer before its rate is known: 2 MiB, what a 50 ms path carries at 40 MB/s. */
  startRequests: number;
  /** Blocks that are asked of a peer at least, however slow it is: half a megabyte, so that several NAR files are under way. */
  minRequests: number;
  /** Blocks that are ever asked of a peer at once, unless it allows fewer: 8 MiB, for 160 MB/s at 50 ms. */
  maxRequests: number;
  /** What a peer is taken to allow when it does not say: the least that engines in use allow. */
  assumedRequests: number;
  /** Milliseconds of a peer's rate that wait at it beyond a round trip: what it needs not to run dry between two looks. */
  aheadMs: number;
  /** Blocks that one NAR file gets before it is the next one's turn: a small one as a whole, so that they come from one read. */
  turnBlocks: number;
  /** Messages between two blocks that bring nothing, beyond one for each piece that a pack can have and each request under way. */
  chatter: number;
  /** Requests in a row that one peer may refuse before it is left: one that holds a part of a pack refuses some. */
  rejects: number;
  /** Milliseconds that a peer is not tried again for a pack after it could not be reached or was left; doubled each time in a row. */
  failedMs: number;
  /** Where that doubling ends. */
  failedMostMs: number;
  /** Bytes that a peer must have given over a connection, for its failures before to be forgotten. */
  provenBytes: number;
  /** The same after it gave wrong bytes. */
  spoiltMs: number;
  /** Packs in which a peer gave wrong bytes, after which it is tried for none. */
  spoiltPacks: number;
  /** Peers that this is remembered of; the oldest goes first. */
  failedPeers: number;
  /** Bytes of the longest range that is asked for; each is held in memory until it was read. Packs hold NAR files of 1 MiB at most. */
  rangeBytes: number;
  /** Milliseconds between looks at what stands still, while there is a connection: a fraction of the shortest wait. */
  sweepMs: number;
  /** Bytes taken from a socket at once. */
  readBytes: number;
}

export const packLimits: Readonly<PackLimits> = {
  connections: 64,
  peersPerPack: 3,
  addressesPerPack: 50,
  connectMs: 2_000,
  idleMs: 60_000,
  stallMs: 1_000,
  slowMs: 2_000,
  leastBytesPerSecond: 16 * 1024,
  blockMs: 10_000,
  startRequests: 128,
  minRequests: 32,
  maxRequests: 512,
  assumedRequests: 200,
  aheadMs: 250,
  turnBlocks: 16,
  chatter: 200,
  rejects: 100,
  failedMs: 500,
  failedMostMs: 60_000,
  provenBytes: 1024 * 1024,
  spoiltMs: 10 * 60_000,
  spoiltPacks: 3,
  failedPeers: 1_000,
  rangeBytes: 1024 * 1024,
  sweepMs: 50,
  readBytes: 128 * 1024,
};
