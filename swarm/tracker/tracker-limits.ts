/** Every limit of the tracker, over HTTP and UDP, with its unit and the reason for its value. */

export interface TrackerLimits {
  /** Seconds between announces of one peer: half an hour is what public trackers ask for. */
  intervalSeconds: number;
  /** Seconds after which a peer that lost all its connections may ask again: aria2 asks for peers only then. */
  minIntervalSeconds: number;
  /** Torrents with peers besides the permanent ones; the one that was announced longest ago goes. 53 B each. */
  torrents: number;
  /** Peers of one torrent; the one that announced longest ago goes. An answer holds 50. */
  peersPerTorrent: number;
  /** Peers of one torrent at one address: a household, but too few to crowd the others out of the answers. */
  peersPerTorrentAndAddress: number;
  /** Peers of all torrents; those of the torrent that was announced longest ago go. 32 B each. */
  peers: number;
  /** Peers that one address (a /64 of IPv6) may have over all torrents: a busy NAT, but no flood. */
  peersPerAddress: number;
  /**
   * Announces, and torrents scraped, of one address a minute. Whoever has all `peersPerAddress` and announces each of them every half
   * an hour needs 667; at the limit, an address takes a thousandth of one core over UDP.
   */
  requestsPerAddressAndMinute: number;
  /** Seconds for which a torrent with peers is taken for known before the catalog is asked again. */
  knownSeconds: number;
  /** Torrents looked through for peers that went away, on each announce. */
  sweepTorrents: number;
}

export const trackerLimits: Readonly<TrackerLimits> = {
  intervalSeconds: 1_800,
  minIntervalSeconds: 30,
  torrents: 400_000,
  peersPerTorrent: 200,
  peersPerTorrentAndAddress: 8,
  peers: 1_000_000,
  peersPerAddress: 20_000,
  requestsPerAddressAndMinute: 1_200,
  knownSeconds: 60,
  sweepTorrents: 2,
};
