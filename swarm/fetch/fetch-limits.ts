/** Every limit of the downloading side, with its unit and the reason for its value. */

export interface FetchLimits {
  /** Connections for one torrent. More than a handful hardly adds speed, but some of twenty are always good. */
  peers: number;
  /** The same while it is held: enough that one is good, few enough that many torrents can be kept warm. */
  heldPeers: number;
  /** Milliseconds that a fetch is held before nobody is taken to want it: half of what peers grant those who ask for nothing. */
  holdMs: number;
  /** Addresses that one fetch ever takes note of; trackers name 50 at a time. */
  addresses: number;
  /** Milliseconds until a connection must stand and show its handshake. Half a world away is 300 ms. */
  connectMs: number;
  /** Bytes of verified or incomplete pieces that are held beyond what was taken; at least two pieces are. */
  aheadBytes: number;
  /** The same when twice what the paths of all peers hold is more: only a fast link fills it, and only one fetch at a time. */
  aheadMaxBytes: number;
  /** Blocks that are asked of a peer at first: 1 MiB, what a 50 ms path carries at 20 MB/s. */
  startRequests: number;
  /** The same for each of several peers, so that all of them work on the first pieces. */
  startRequestsOfSeveral: number;
  /** Blocks that are ever asked of a peer at once, unless it allows fewer: 24 MiB, for 300 MB/s at 50 ms with some to spare. */
  maxRequests: number;
  /** Milliseconds of its rate that a peer is asked for beyond what its path holds: for a pause of either side. */
  slackMs: number;
  /** Blocks that an idle peer takes over from others at a time; it gets more when it has given them. */
  overtakeRequests: number;
  /** What a peer is taken to allow when it does not say: the least that engines in use allow. */
  assumedRequests: number;
  /** Milliseconds over which the rate of all peers together is looked at: a long road needs some for its first blocks. */
  slowMs: number;
  /** Bytes a second, of all peers together while they are waited for, below which the swarm counts as stalled: a modem's worth. */
  leastBytesPerSecond: number;
  /** Milliseconds that the next piece is waited for before a seed that deals is asked for it although it did not suggest it. */
  dealPatienceMs: number;
  /** Silences without anything from the others in between, after which such seeds are asked for anything: the others cannot be reached. */
  dealNeeds: number;
  /** Milliseconds after a refused request in which the peer is asked for nothing. */
  rejectedPauseMs: number;
  /** Requests that one peer may refuse before it is given up. */
  rejects: number;
  /** Requests for one piece that a peer may refuse before it counts as lacking it: one or two are for want of time. */
  rejectsOfPiece: number;
  /**
   * Messages between two blocks that bring nothing, beyond one for each piece (`have`) and each request under way (answers to what was
   * cancelled): well-behaved peers send a few.
   */
  chatter: number;
  /** Milliseconds between keep-alives while the caller takes its time; peers give up on silent connections after two minutes. */
  keepAliveMs: number;
  /** Milliseconds between looks at what stands still: a fraction of the shortest stall. */
  sweepMs: number;
  /** Bytes taken from a socket at once. */
  readBytes: number;
  /** Bytes of a piece from which on it is hashed beside the thread that reads from the peers: to hand over a smaller one takes as long. */
  hashAsideBytes: number;
}

export const fetchLimits: Readonly<FetchLimits> = {
  peers: 20,
  heldPeers: 3,
  holdMs: 60_000,
  addresses: 1_000,
  connectMs: 2_000,
  aheadBytes: 16 * 1024 * 1024,
  aheadMaxBytes: 32 * 1024 * 1024,
  startRequests: 64,
  startRequestsOfSeveral: 16,
  maxRequests: 1_536,
  slackMs: 8,
  overtakeRequests: 16,
  assumedRequests: 200,
  slowMs: 2_000,
  leastBytesPerSecond: 16 * 1024,
  dealPatienceMs: 5_000,
  dealNeeds: 10,
  rejectedPauseMs: 250,
  rejects: 500,
  rejectsOfPiece: 3,
  chatter: 200,
  keepAliveMs: 60_000,
  sweepMs: 50,
  readBytes: 256 * 1024,
  hashAsideBytes: 256 * 1024,
};
