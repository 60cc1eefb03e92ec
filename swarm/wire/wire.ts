/**
 * The peer wire protocol (BEP 3, 6, 10): a bounded decoder that works on whatever chunks a socket gives.
 *
 * Every declared length is checked before a byte of that message is kept. Only control messages that are split over chunks are
 * assembled; the payload of a `piece` passes through in slices of the chunk, so that the receiver copies it once, to where it belongs.
 */
import { NarswarmError } from '../../nar/errors.ts';
import { blockMaxBytes, controlMessageMaxBytes } from './limits.ts';

/** Message ids of BEP 3, BEP 5 (port), BEP 6 and BEP 10. */
export const messageIds = {
  choke: 0,
  unchoke: 1,
  interested: 2,
  notInterested: 3,
  have: 4,
  bitfield: 5,
  request: 6,
  piece: 7,
  cancel: 8,
  port: 9,
  suggest: 13,
  haveAll: 14,
  haveNone: 15,
  reject: 16,
  allowedFast: 17,
  extended: 20,
} as const;

/**
 * What the decoder calls, in the order of the stream. A method that is absent ignores its message.
 *
 * `bits`, `payload` and `bytes` are views into a chunk or a reused buffer: valid during the call only.
 * The decoder has checked lengths, piece numbers of `have`, `suggest` and `allowedFast`, and the spare bits of a bitfield.
 * Whether a block lies inside the torrent is for the visitor to check.
 */
export interface WireVisitor {
  keepAlive?(): void;
  choke?(): void;
  unchoke?(): void;
  interested?(): void;
  notInterested?(): void;
  have?(index: number): void;
  bitfield?(bits: Buffer): void;
  request?(index: number, begin: number, lengthBytes: number): void;
  cancel?(index: number, begin: number, lengthBytes: number): void;
  /** A block begins. `lengthBytes` is from 1 to `blockMaxBytes`; as many bytes follow in `pieceData`, then `pieceEnd`. */
  pieceStart?(index: number, begin: number, lengthBytes: number): void;
  /** The next bytes of the block, `offset` bytes after its beginning. Never empty. */
  pieceData?(bytes: Buffer, offset: number): void;
  pieceEnd?(): void;
  /**
   * Where the block goes that is arriving, from `offset` bytes after its beginning on, if it may be read to there: all of its rest, and room for
   * the head of a message behind it. Asked before each read; what `pieceData` gives then is in its place.
   */
  piecePlace?(offset: number): Buffer | undefined;
  suggest?(index: number): void;
  haveAll?(): void;
  haveNone?(): void;
  reject?(index: number, begin: number, lengthBytes: number): void;
  allowedFast?(index: number): void;
  /** BEP 10: id 0 is the extended handshake, others are what we announced in ours. */
  extended?(id: number, payload: Buffer): void;
  /** The DHT port of BEP 5, or an id we do not know; its payload is skipped, never kept. */
  ignored?(id: number, lengthBytes: number): void;
}

export interface WireDecoderOptions {
  /**
   * Pieces in the torrent: bounds the bitfield and every piece number. `unknown` while all that is known is the infohash: bitfields are
   * skipped then, and piece numbers unbounded.
   */
  pieces: number | 'unknown';
  /** Bytes of the largest block accepted, at most `blockMaxBytes`, which is the default; 0: any `piece` is a violation. */
  blockMaxBytes?: number;
}

const lengthBytes = 4;
/** Of a block, which is the message that most often follows one. */
export const pieceHeadBytes = 13;
const smallBytes = 32;

/**
 * Decodes what follows the handshake. `push` throws NarswarmError `wire-violation`, with the offset of the offending message
 * from the first byte pushed, for anything out of bounds; what a visitor throws passes through. After either, and after `stop()`, further
 * bytes are ignored.
 */
export class WireDecoder {
  readonly #visitor: WireVisitor;
  readonly #pieces: number;
  readonly #bitfieldBytes: number;
  readonly #blockMaxBytes: number;
  readonly #messageMaxBytes: number;
  /** The beginning of a message that is not whole yet: `#heldBytes` bytes of it. */
  #held: Buffer = Buffer.allocUnsafeSlow(smallBytes);
  #heldBytes = 0;
  #blockBytes = 0;
  #blockLeft = 0;
  #skipLeft = 0;
  #offset = 0;
  #stopped = false;

  constructor(visitor: WireVisitor, options: WireDecoderOptions) {
    this.#visitor = visitor;
    this.#pieces = options.pieces === 'unknown' ? Number.POSITIVE_INFINITY : options.pieces;
    this.#bitfieldBytes = options.pieces === 'unknown' ? 0 : Math.ceil(options.pieces / 8);
    this.#blockMaxBytes = Math.min(options.blockMaxBytes ?? blockMaxBytes, blockMaxBytes);
    this.#messageMaxBytes = Math.max(
      controlMessageMaxBytes,
      this.#bitfieldBytes + 1,
      this.#blockMaxBytes + pieceHeadBytes - lengthBytes,
    );
  }

  /** Bytes of the current block that are still to come; 0 between blocks. */
  get blockLeftBytes(): number {
    return this.#blockLeft;
  }

  /** Memory for what is read next, when most of it would be copied to there anyway. */
  place(): Buffer | undefined {
    if (this.#blockLeft === 0 || this.#stopped) return undefined;
    return this.#visitor.piecePlace?.(this.#blockBytes - this.#blockLeft);
  }

  /** True between messages, when a stream may end without cutting one off. */
  get idle(): boolean {
    return this.#heldBytes === 0 && this.#blockLeft === 0 && this.#skipLeft === 0;
  }

  /** No further calls to the visitor, not even for the rest of the chunk being pushed. For use inside a visitor. */
  stop(): void {
    this.#stopped = true;
    this.#heldBytes = 0;
    this.#held = Buffer.alloc(0);
  }

  push(chunk: Buffer): void {
    let at = 0;
    try {
      while (at < chunk.length && !this.#stopped) at = this.#step(chunk, at);
    } catch (error) {
      this.stop();
      throw error;
    }
  }

  /** Consumes something at `at` and returns where the next step begins. */
  #step(chunk: Buffer, at: number): number {
    const available = chunk.length - at;
    if (this.#blockLeft > 0) {
      const count = Math.min(this.#blockLeft, available);
      const offset = this.#blockBytes - this.#blockLeft;
      this.#blockLeft -= count;
      this.#offset += count;
      this.#visitor.pieceData?.(chunk.subarray(at, at + count), offset);
      if (this.#blockLeft === 0 && !this.#stopped) this.#visitor.pieceEnd?.();
      return at + count;
    }
    if (this.#skipLeft > 0) {
      const count = Math.min(this.#skipLeft, available);
      this.#skipLeft -= count;
      this.#offset += count;
      return at + count;
    }
    if (this.#heldBytes === 0) {
      const need = this.#needBytes(chunk, at, available);
      if (need <= available) {
        this.#offset += need;
        this.#dispatch(chunk, at, need);
        return at + need;
      }
    }
    return this.#hold(chunk, at);
  }

  /** Moves bytes into the held beginning of a message, and dispatches it once it is whole. */
  #hold(chunk: Buffer, at: number): number {
    const need = this.#needBytes(this.#held, 0, this.#heldBytes);
    const end = Math.min(chunk.length, at + need - this.#heldBytes);
    if (need > this.#held.length) {
      const larger = Buffer.allocUnsafeSlow(need);
      this.#held.copy(larger, 0, 0, this.#heldBytes);
      this.#held = larger;
    }
    chunk.copy(this.#held, this.#heldBytes, at, end);
    this.#heldBytes += end - at;
    // With more bytes known, more may turn out to be needed: the length first, then the id, then the rest.
    if (this.#needBytes(this.#held, 0, this.#heldBytes) > this.#heldBytes) return end;
    const message = this.#held;
    const messageBytes = this.#heldBytes;
    this.#heldBytes = 0;
    if (message.length > smallBytes) this.#held = Buffer.allocUnsafeSlow(smallBytes);
    this.#offset += messageBytes;
    this.#dispatch(message, 0, messageBytes);
    return end;
  }

  /**
   * Bytes from the beginning of the message that must be there before anything can be done with it, as far as the `available` ones tell:
   * all of a control message, the head of a block, the id of what is skipped. Throws when the declared length breaks a bound.
   */
  #needBytes(source: Buffer, start: number, available: number): number {
    if (available < lengthBytes) return lengthBytes;
    const length = source.readUInt32BE(start);
    if (length === 0) return lengthBytes;
    if (length > this.#messageMaxBytes) throw this.#violation(`a message of ${length} bytes`);
    if (available <= lengthBytes) return lengthBytes + 1;
    const id = source[start + lengthBytes] ?? 0;
    switch (id) {
      case messageIds.piece: {
        const block = length - (pieceHeadBytes - lengthBytes);
        if (block < 1 || block > this.#blockMaxBytes) throw this.#violation(`a block of ${block} bytes`);
        return pieceHeadBytes;
      }
      case messageIds.bitfield:
        if (this.#pieces === Number.POSITIVE_INFINITY) return lengthBytes + 1;
        if (length !== 1 + this.#bitfieldBytes) throw this.#violation(`a bitfield of ${length - 1} bytes`);
        return lengthBytes + length;
      case messageIds.extended:
        if (length < 2 || length > controlMessageMaxBytes)
          throw this.#violation(`an extended message of ${length} bytes`);
        return lengthBytes + length;
      default: {
        const fixed = fixedLengths[id];
        if (fixed !== undefined && length !== fixed)
          throw this.#violation(`message ${id} with length ${length}`);
        if (fixed !== undefined && id !== messageIds.port) return lengthBytes + length;
        if (length > controlMessageMaxBytes) throw this.#violation(`message ${id} with length ${length}`);
        return lengthBytes + 1;
      }
    }
  }

  #dispatch(source: Buffer, start: number, messageBytes: number): void {
    const visitor = this.#visitor;
    if (messageBytes === lengthBytes) {
      visitor.keepAlive?.();
      return;
    }
    const id = source[start + lengthBytes] ?? 0;
    const body = start + lengthBytes + 1;
    switch (id) {
      case messageIds.piece:
        this.#blockBytes = source.readUInt32BE(start) - (pieceHeadBytes - lengthBytes);
        this.#blockLeft = this.#blockBytes;
        visitor.pieceStart?.(source.readUInt32BE(body), source.readUInt32BE(body + 4), this.#blockBytes);
        return;
      case messageIds.request:
        visitor.request?.(
          source.readUInt32BE(body),
          source.readUInt32BE(body + 4),
          source.readUInt32BE(body + 8),
        );
        return;
      case messageIds.cancel:
        visitor.cancel?.(
          source.readUInt32BE(body),
          source.readUInt32BE(body + 4),
          source.readUInt32BE(body + 8),
        );
        return;
      case messageIds.reject:
        visitor.reject?.(
          source.readUInt32BE(body),
          source.readUInt32BE(body + 4),
          source.readUInt32BE(body + 8),
        );
        return;
      case messageIds.have:
        visitor.have?.(this.#pieceNumber(source, body, messageBytes));
        return;
      case messageIds.suggest:
        visitor.suggest?.(this.#pieceNumber(source, body, messageBytes));
        return;
      case messageIds.allowedFast:
        visitor.allowedFast?.(this.#pieceNumber(source, body, messageBytes));
        return;
      case messageIds.choke:
        visitor.choke?.();
        return;
      case messageIds.unchoke:
        visitor.unchoke?.();
        return;
      case messageIds.interested:
        visitor.interested?.();
        return;
      case messageIds.notInterested:
        visitor.notInterested?.();
        return;
      case messageIds.haveAll:
        visitor.haveAll?.();
        return;
      case messageIds.haveNone:
        visitor.haveNone?.();
        return;
      case messageIds.bitfield: {
        if (this.#pieces === Number.POSITIVE_INFINITY) {
          this.#skip(source.readUInt32BE(start), id);
          return;
        }
        const bits = source.subarray(body, start + messageBytes);
        const spare = this.#bitfieldBytes * 8 - this.#pieces;
        if (spare > 0 && ((bits[bits.length - 1] ?? 0) & ((1 << spare) - 1)) !== 0)
          throw this.#violation('a bitfield with spare bits set', messageBytes);
        visitor.bitfield?.(bits);
        return;
      }
      case messageIds.extended:
        visitor.extended?.(source[body] ?? 0, source.subarray(body + 1, start + messageBytes));
        return;
      default:
        this.#skip(source.readUInt32BE(start), id);
    }
  }

  #skip(length: number, id: number): void {
    this.#skipLeft = length - 1;
    this.#visitor.ignored?.(id, length);
  }

  #pieceNumber(source: Buffer, at: number, messageBytes: number): number {
    const index = source.readUInt32BE(at);
    if (index >= this.#pieces)
      throw this.#violation(`piece ${index} of a torrent with ${this.#pieces}`, messageBytes);
    return index;
  }

  #violation(what: string, consumedBytes = 0): NarswarmError {
    return new NarswarmError('wire-violation', `the peer sent ${what}`, {
      offset: this.#offset - consumedBytes,
    });
  }
}

/** Declared length, by id, of the messages that have only one. */
const fixedLengths: readonly (number | undefined)[] = (() => {
  const lengths = new Array<number | undefined>(256).fill(undefined);
  for (const id of [0, 1, 2, 3, messageIds.haveAll, messageIds.haveNone]) lengths[id] = 1;
  for (const id of [messageIds.have, messageIds.suggest, messageIds.allowedFast]) lengths[id] = 5;
  for (const id of [messageIds.request, messageIds.cancel, messageIds.reject]) lengths[id] = 13;
  lengths[messageIds.port] = 3;
  return lengths;
})();
