/** Every limit of the upload policy and its pacing, with its unit and the reason for its value. */

export interface UploadLimits {
  /** NAR files below this many bytes are never capped: they cost less than the bookkeeping. */
  neverCappedBytes: number;
  /** Copies that leave beyond the first ones while sharing peers lack pieces that none of them has: for what left twice by accident. */
  graceCopies: number;
  /** Torrents whose policy is in memory beyond those being served; each takes about 300 B, the rest is in the database. */
  rememberedTorrents: number;
  /** Milliseconds between writes of what was uploaded, which is what a kill may lose: with each sweep. */
  flushMs: number;
  /** Records in one write, so that it holds up nothing else: 20 µs each, and somebody waits. The rest goes with the next. */
  flushRecords: number;
  /** Milliseconds between rounds of giving out what the rates allow, while somebody waits. */
  tickMs: number;
  /** What may be saved up while nobody asks, in milliseconds of the rate. */
  burstMs: number;
  /** Bytes that a peer is given in one turn, at low rates: one block as everybody asks for it. */
  quantumMinBytes: number;
  /** The same at high rates, at most: one file read. */
  quantumMaxBytes: number;
  /** Of what goes to the rarest torrents, the part that goes to the others all the same: so nobody starves. */
  othersShare: number;
  /** Bytes a second that an unchoked peer should get at least; fewer are unchoked when there is less: two blocks a second. */
  slotBytesPerSecond: number;
  /** Peers unchoked at once for a capped torrent, however high its rate: more would only spread it thinner. */
  cappedSlotsMax: number;
  /** Peers unchoked at least under a rate for all torrents together, however low. */
  totalSlotsMin: number;
  /** Milliseconds that a peer keeps its slot while others wait: time for a megabyte at `slotBytesPerSecond`. */
  slotMs: number;
  /** A slot of which nothing was asked for this long goes to whoever waits. */
  slotIdleMs: number;
  /** A peer that is held back and says nothing for this long is gone: BEP 3 asks for a keepalive every two minutes. */
  heldBackSilenceMs: number;
}

export const uploadLimits: Readonly<UploadLimits> = {
  neverCappedBytes: 256 * 1024,
  graceCopies: 0.25,
  rememberedTorrents: 4096,
  flushMs: 500,
  flushRecords: 250,
  tickMs: 50,
  burstMs: 250,
  quantumMinBytes: 16 * 1024,
  quantumMaxBytes: 1024 * 1024,
  othersShare: 1 / 8,
  slotBytesPerSecond: 32 * 1024,
  cappedSlotsMax: 8,
  totalSlotsMin: 4,
  slotMs: 30_000,
  slotIdleMs: 10_000,
  heldBackSilenceMs: 4 * 60_000,
};
