/**
 * Every limit of the wire and of the seed server, with its unit and the reason for its value.
 *
 * The wire limits are fixed: they say what a sane peer ever sends. Those of the seed server are defaults that a program may replace.
 */

/** Bytes of one block as everybody requests it. Larger ones are allowed on the wire, but some engines drop the peer. */
export const blockBytes = 16 * 1024;

/** Bytes of the largest block that other programs ever ask for: libtorrent and Transmission stop at 128 KiB. */
export const foreignBlockMaxBytes = 128 * 1024;

/** Bytes of the largest block that is served or accepted, between two programs of ours: one read of the disk, and most pieces of large files. */
export const blockMaxBytes = 1024 * 1024;

/**
 * Bytes of the largest control message, its id included. An extended handshake is under 1 KiB and a ut_metadata piece 16 KiB and
 * a header; nothing else is longer, apart from the bitfield, whose length the torrent gives.
 */
export const controlMessageMaxBytes = 32 * 1024;

/** Bytes of one piece of metadata (BEP 9 fixes it). */
export const metadataPieceBytes = 16 * 1024;

/** Levels of nesting in the bencode of an extended message: the handshake has two, so four leaves room for what others add. */
export const extensionDepthMax = 4;

/** Values in one extended message. A handshake has about 20; 32 KiB of empty lists would be 16,000 objects. */
export const extensionValuesMax = 512;

/** What a seed server allows. All of it is enforced by one sweep and by counters: no timer belongs to a single connection. */
export interface SeedLimits {
  /** Connections at once. One costs about 10 KiB and a file descriptor. */
  connectionsMax: number;
  /** Connections at once from one IPv4 address or IPv6 /64: a client with a hundred torrents behind one address must fit. */
  connectionsPerAddressMax: number;
  /**
   * Handshakes for unknown torrents in a minute from one such address; then its connections are turned away until the next minute, unless one
   * of them is served. A client tries an address once a minute at most for each torrent that it was once told of there, so that
   * this many are a hundred clients with ten torrents each that have left the catalog.
   */
  unknownPerMinuteMax: number;
  /**
   * Handshakes for unknown torrents in a second from all addresses together. While there are more, an address that has sent one in the last
   * minute or two is turned away, unless it is served: a flood from thousands of addresses stays below the limit for one. Each costs
   * 0.11 ms, so that this many take 6 % of a core.
   */
  unknownPerSecondMax: number;
  /** Connections that the kernel may hold before they are accepted: a burst of all that are allowed, while the server is busy for a moment. */
  backlog: number;
  /** Torrents open at once: each is a file descriptor and up to 40 KiB of piece hashes and metadata. */
  openTorrentsMax: number;
  /** An open torrent without a connection is closed after this long, so that a quiet server holds no file. */
  openTorrentIdleMs: number;
  /** From the connection to the last byte of the handshake, and as long again for opening the torrent. */
  handshakeDeadlineMs: number;
  /** Encrypted handshakes in one second: each costs half a millisecond. What comes beyond is refused, and peers try a plain one. */
  encryptedHandshakesPerSecond: number;
  /** A connection that asks for nothing for this long is closed, as BEP 3 clients do. */
  idleMs: number;
  /** How often a keepalive restarts the idle time before the peer must ask for something again: 20 minutes with the 2 minutes above. */
  keepAlivesMax: number;
  /** Requests that wait per peer, told to the peer as `reqq`. libtorrent's own figure; a request that waits costs about 60 bytes. */
  requestsQueuedMax: number;
  /** Bytes that those requests may ask for: `requestsQueuedMax` blocks of the usual size. */
  requestsQueuedMaxBytes: number;
  /** Bytes of one file read, which answers as many contiguous requests as fit. Larger ones gained nothing when measured. */
  readMaxBytes: number;
  /** Bytes read but not yet taken by the kernel that a new or slow peer may hold; doubled for each send that took under a second. */
  sendWindowMinBytes: number;
  /** Where that doubling ends: two reads, so that one is sent while the next one is read. */
  sendWindowMaxBytes: number;
  /** Bytes held so by all peers together. From half of it on, every peer gets the smallest window only. */
  sendBudgetBytes: number;
  /** Bytes of answers other than blocks that may wait for a peer; then nothing more is read from it until it has taken them. */
  controlBacklogMaxBytes: number;
  /** A peer that has not taken what was sent after this long is closed: 64 KiB in 60 s is about 1 KiB/s. */
  slowReaderMs: number;
  /**
   * Messages per minute that lead to no upload: unknown ones, keepalives, changes of interest, refused requests, late cancels. A peer that
   * pauses cancels all it asked for at once, so the limit is above `requestsQueuedMax`.
   */
  chatterPerMinuteMax: number;
  /** How often a peer may fetch the whole metadata over one connection. Honest peers need it once. */
  metadataCopiesMax: number;
  /** After our FIN, the time that the peer gets to close its side. */
  lingerMs: number;
  /** When the server closes, the time for what is being sent. */
  drainMs: number;
  /** How often deadlines are looked at; every deadline is kept to within this. */
  sweepMs: number;
}

export const seedLimits: Readonly<SeedLimits> = {
  connectionsMax: 2048,
  connectionsPerAddressMax: 256,
  unknownPerMinuteMax: 1000,
  unknownPerSecondMax: 500,
  backlog: 2048,
  openTorrentsMax: 1024,
  openTorrentIdleMs: 5 * 60_000,
  handshakeDeadlineMs: 10_000,
  encryptedHandshakesPerSecond: 200,
  idleMs: 2 * 60_000,
  keepAlivesMax: 10,
  requestsQueuedMax: 2000,
  requestsQueuedMaxBytes: 2000 * blockBytes,
  readMaxBytes: 1024 * 1024,
  sendWindowMinBytes: 64 * 1024,
  sendWindowMaxBytes: 2 * 1024 * 1024,
  sendBudgetBytes: 256 * 1024 * 1024,
  controlBacklogMaxBytes: 64 * 1024,
  slowReaderMs: 60_000,
  chatterPerMinuteMax: 3000,
  metadataCopiesMax: 3,
  lingerMs: 5_000,
  drainMs: 1_000,
  sweepMs: 1_000,
};
