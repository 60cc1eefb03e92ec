/** Encoders of the peer wire protocol (BEP 3, 6, 10). Each returns a small new Buffer. */
import { blockBytes } from './limits.ts';
import { messageIds } from './wire.ts';

/** A block as `request`, `cancel` and `reject` name it. */
export interface BlockRequest {
  /** Piece number. */
  index: number;
  /** Offset in bytes inside the piece. */
  begin: number;
  lengthBytes: number;
}

/** Blocks of the usual size that a request is for. */
export function blocksOf({ lengthBytes }: BlockRequest): number {
  return Math.ceil(lengthBytes / blockBytes);
}

/** Bytes of a `request`, `cancel` or `reject` on the wire. */
export const requestMessageBytes = 17;

/** Bytes in front of a block on the wire. */
export const pieceHeaderBytes = 13;

export function encodeKeepAlive(): Buffer {
  return Buffer.alloc(4);
}

/** A message that is only its id. */
export function encodeSimple(
  kind: 'choke' | 'unchoke' | 'interested' | 'notInterested' | 'haveAll' | 'haveNone',
): Buffer {
  return Buffer.from([0, 0, 0, 1, messageIds[kind]]);
}

/** A message that names one piece. */
export function encodeIndexed(kind: 'have' | 'suggest' | 'allowedFast', index: number): Buffer {
  const message = Buffer.alloc(9);
  message.writeUInt32BE(5, 0);
  message[4] = messageIds[kind];
  message.writeUInt32BE(index, 5);
  return message;
}

/** `bits`: one bit per piece, the highest bit of the first byte first, spare bits zero. */
export function encodeBitfield(bits: Uint8Array): Buffer {
  return encodeWithId(messageIds.bitfield, bits);
}

/** The bitfield of a peer that has all of `pieces`. */
export function fullBitfield(pieces: number): Buffer {
  const bits = Buffer.alloc(Math.ceil(pieces / 8), 0xff);
  const spare = bits.length * 8 - pieces;
  if (spare > 0) bits[bits.length - 1] = (0xff << spare) & 0xff;
  return bits;
}

export function encodeRequest(block: BlockRequest): Buffer {
  return encodeBlockMessages('request', [block]);
}

/** Many requests in one Buffer, so that a deep pipeline is one write. */
export function encodeRequests(blocks: readonly BlockRequest[]): Buffer {
  return encodeBlockMessages('request', blocks);
}

export function encodeCancel(block: BlockRequest): Buffer {
  return encodeBlockMessages('cancel', [block]);
}

/** Many cancels in one Buffer. */
export function encodeCancels(blocks: readonly BlockRequest[]): Buffer {
  return encodeBlockMessages('cancel', blocks);
}

/** BEP 6: many rejects in one Buffer. Only for peers that set the bit of the fast extension. */
export function encodeRejects(blocks: readonly BlockRequest[]): Buffer {
  return encodeBlockMessages('reject', blocks);
}

/** Writes the 13 bytes that go in front of a block at `at` of `target`; the block is written separately, without a copy. */
export function writePieceHeader(target: Buffer, at: number, block: BlockRequest): void {
  target.writeUInt32BE(block.lengthBytes + pieceHeaderBytes - 4, at);
  target[at + 4] = messageIds.piece;
  target.writeUInt32BE(block.index, at + 5);
  target.writeUInt32BE(block.begin, at + 9);
}

/** The 13 bytes that go in front of a block. */
export function encodePieceHeader(block: BlockRequest): Buffer {
  const header = Buffer.alloc(pieceHeaderBytes);
  writePieceHeader(header, 0, block);
  return header;
}

/** BEP 10. `id` 0 is the extended handshake; any other is the number that the *peer* gave the extension in its own. */
export function encodeExtended(id: number, ...payload: readonly Uint8Array[]): Buffer {
  return encodeWithId(messageIds.extended, Buffer.from([id]), ...payload);
}

function encodeBlockMessages(kind: 'request' | 'cancel' | 'reject', blocks: readonly BlockRequest[]): Buffer {
  const messages = Buffer.allocUnsafe(blocks.length * requestMessageBytes);
  let at = 0;
  for (const block of blocks) {
    messages.writeUInt32BE(requestMessageBytes - 4, at);
    messages[at + 4] = messageIds[kind];
    messages.writeUInt32BE(block.index, at + 5);
    messages.writeUInt32BE(block.begin, at + 9);
    messages.writeUInt32BE(block.lengthBytes, at + 13);
    at += requestMessageBytes;
  }
  return messages;
}

function encodeWithId(id: number, ...parts: readonly Uint8Array[]): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(1 + parts.reduce((sum, part) => sum + part.length, 0), 0);
  head[4] = id;
  return Buffer.concat([head, ...parts]);
}
