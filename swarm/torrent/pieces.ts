/** How a torrent is cut into pieces (BEP 3). */

/** Bytes of a SHA-1 digest. */
export const pieceHashBytes = 20;

/** A torrent's length and that of its pieces, in bytes. */
export interface Cut {
  readonly length: number;
  readonly pieceLength: number;
}

/** How many pieces a torrent has. */
export function pieceCount({ length, pieceLength }: Cut): number {
  return Math.ceil(length / pieceLength);
}

/** The size in bytes of piece `index`: the last one is usually shorter. */
export function pieceSize({ length, pieceLength }: Cut, index: number): number {
  return Math.min(pieceLength, length - index * pieceLength);
}

/** The SHA-1 that piece `index` is to have. */
export function pieceHashOf({ pieces }: { readonly pieces: Buffer }, index: number): Buffer {
  return pieces.subarray(index * pieceHashBytes, (index + 1) * pieceHashBytes);
}
