/** Every limit of the DHT node, with its unit and the reason for its value. */

/** What parent and child hold to. The child gets its share with the first message. */
export interface DhtLimits {
  /**
   * Announces a minute, those that fail included. Among 300 nodes one took 72 questions (median), so that 20 a minute are some 25
   * questions a second; with `reannounceMs` they keep 400 torrents announced.
   */
  announcesPerMinute: number;
  /** Announces under way at once: the library has 16 questions open at once, and each announce is slower for those beside it. */
  announcesUnderWayMax: number;
  /** A node forgets a peer after 30 minutes (libtorrent's figure, and that of most), and BEP 5 asks for no more often than every 15. */
  reannounceMs: number;
  /** After an announce that reached no node. */
  retryMs: number;
  /** Torrents remembered as asked for, the one asked for longest ago forgotten first: more than can be announced. */
  torrentsMax: number;
  /** A torrent that nobody asked for any more after this long is left to the peers that have it. */
  demandMs: number;
  /** Demand counts for half after this long: what is asked for now comes before what was asked for an hour ago. */
  demandHalfLifeMs: number;
  /** Demand for one torrent counts once in this time, so that the bytes of one download are not mistaken for many. */
  demandEveryMs: number;

  /** How often the parent looks at what is due. */
  tickMs: number;
  /** How often the child says that it lives, and what it counted. */
  heartbeatMs: number;
  /** A child that was silent for this long hangs, and is killed. */
  hangMs: number;
  /** Until the first restart of a child that died; doubled with each death. */
  restartMinMs: number;
  /** Where that doubling ends. */
  restartMaxMs: number;
  /** A child that ran for this long died of something else than its predecessor: the doubling begins anew. */
  stableMs: number;
  /** When the parent closes: the time that the child gets before it is killed. */
  closeMs: number;

  /** Items and peers that are looked for at once, and items that are put: the library has 16 questions open at once. */
  requestsUnderWayMax: number;
  /** Of those that wait for their turn. A program asks for a handful; what is above is refused. */
  requestsWaitingMax: number;
  /** Looking for the nodes next to one infohash: nodes that go on naming nearer ones would otherwise make it endless. */
  lookupMs: number;
  /** Peers of other people's torrents that are remembered, of all torrents together. */
  peersMax: number;
  /** Signed items of other people that are kept, of at most 210 bytes each; the one that was of use longest ago goes first. */
  itemsMax: number;
  /** Tokens that announces need, by torrent, for the 5 minutes that the library keeps them. */
  lookupsKept: number;
  /** How long a window of the next two limits is. */
  queryWindowMs: number;
  /** Queries taken from one address in a window. An honest node asks a few in a minute; what is above gets no answer. */
  queriesPerAddressMax: number;
  /** Queries taken in a window from everybody, which bounds the addresses that are counted, too. */
  queriesMax: number;
  /** Questions of ours whose answers are waited for. The library has 16 open, and forgets them after 3 s. */
  transactionsMax: number;
}

export const dhtLimits: Readonly<DhtLimits> = {
  announcesPerMinute: 20,
  announcesUnderWayMax: 3,
  reannounceMs: 20 * 60_000,
  retryMs: 2 * 60_000,
  torrentsMax: 1_000,
  demandMs: 2 * 3_600_000,
  demandHalfLifeMs: 30 * 60_000,
  demandEveryMs: 10_000,
  tickMs: 1_000,
  heartbeatMs: 5_000,
  hangMs: 30_000,
  restartMinMs: 1_000,
  restartMaxMs: 5 * 60_000,
  stableMs: 10 * 60_000,
  closeMs: 500,
  requestsUnderWayMax: 4,
  requestsWaitingMax: 64,
  lookupMs: 30_000,
  peersMax: 2_000,
  itemsMax: 1_000,
  lookupsKept: 100,
  queryWindowMs: 10_000,
  queriesPerAddressMax: 100,
  queriesMax: 5_000,
  transactionsMax: 256,
};

/** Nodes by which the DHT is found: the library asks all of them at each start. */
export const bootstrapNodesMax = 32;

/** Bytes of the largest packet that is looked at: what an Ethernet frame holds. Answers of honest nodes have 100 to 700. */
export const dhtPacketMaxBytes = 1_500;

/** Bytes of a transaction id. BEP 5 has 2; some programs use 4 or 8. It goes back as it came, so it is bounded. */
export const dhtTransactionMaxBytes = 32;

/** Bytes of a token. libtorrent's have 4, the library's 20. We keep them, and send them back. */
export const dhtTokenMaxBytes = 64;

/** Bytes of what tells the items of one key apart (BEP 44). Of their values, which may have 1,000 by it, ours have 27. */
export const dhtSaltMaxBytes = 64;

/** Nodes that an item is put to, those next to it: K of BEP 5. */
export const dhtItemNodes = 8;

/** Peers that are found of one torrent. */
export const dhtFoundPeersMax = 100;

/** Bytes of the text of an error, which nobody reads. */
export const dhtErrorMaxBytes = 256;

/**
 * Peers in one answer, as many as uTorrent gives. The library would send all it knows, up to 64 KB in answer to 100 bytes, and
 * to whatever address the question claimed to be from.
 */
export const dhtAnsweredPeersMax = 50;

/** Nodes in one answer: K of BEP 5. The library would send its whole table here, too, in packets that we ourselves would not take. */
export const dhtAnsweredNodesMax = 8;

/** Bytes of a compact node (id, IPv4 address, port), and of a compact peer (address, port). */
export const dhtNodeBytes = 26;
export const dhtPeerBytes = 6;

/** Levels and values of the bencode in a packet: an answer has 3 levels, and 1,500 bytes hold fewer than 190 peers. */
export const dhtDepthMax = 6;
export const dhtValuesMax = 256;
