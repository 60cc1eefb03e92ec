/** The handshake of the peer wire protocol: 68 bytes (BEP 3), with the reserved bits of BEP 6 and BEP 10. */
import { randomBytes } from 'node:crypto';
import { NarswarmError } from '../../nar/errors.ts';
import type { InfoHash } from '../../nar/hash.ts';
import { infoHashFromDigest, infoHashToDigest } from '../../nar/hash.ts';

export const handshakeBytes = 68;

export interface Handshake {
  infoHash: InfoHash;
  /** 20 bytes. */
  peerId: Buffer;
  /** BEP 6, the fast extension. */
  fast: boolean;
  /** BEP 10, the extension protocol. */
  extended: boolean;
}

const protocol = Buffer.from('\x13BitTorrent protocol', 'latin1');
const reservedAt = protocol.length;
const infoHashAt = reservedAt + 8;
const peerIdAt = infoHashAt + 20;
const fastBit = 0x04;
const extendedBit = 0x10;

const ourCode = Buffer.from('-NS0001-', 'latin1');

/** A new peer id: our client code in the Azureus style, then 12 random bytes. */
export function makePeerId(): Buffer {
  return Buffer.concat([ourCode, randomBytes(12)]);
}

/** Whether it is one of ours by what it says. */
export function isOurCode(peerId: Buffer): boolean {
  return peerId.subarray(0, ourCode.length).equals(ourCode);
}

/** Both extensions are announced unless told otherwise. */
export function encodeHandshake(handshake: {
  infoHash: InfoHash;
  peerId: Buffer;
  fast?: boolean;
  extended?: boolean;
}): Buffer {
  const message = Buffer.alloc(handshakeBytes);
  protocol.copy(message);
  if (handshake.extended ?? true) message[reservedAt + 5] = extendedBit;
  if (handshake.fast ?? true) message[reservedAt + 7] = fastBit;
  Buffer.from(infoHashToDigest(handshake.infoHash)).copy(message, infoHashAt);
  if (handshake.peerId.length !== 20) throw new TypeError('a peer id has 20 bytes');
  handshake.peerId.copy(message, peerIdAt);
  return message;
}

/** Reads the first 68 bytes. Throws `wire-violation` when they are not a handshake. */
export function parseHandshake(bytes: Buffer): Handshake {
  checkProtocol(bytes, Math.min(bytes.length, protocol.length));
  if (bytes.length < handshakeBytes)
    throw new NarswarmError('wire-violation', 'a handshake was cut short', { offset: bytes.length });
  return {
    infoHash: infoHashFromDigest(bytes.subarray(infoHashAt, peerIdAt)),
    peerId: Buffer.from(bytes.subarray(peerIdAt, handshakeBytes)),
    fast: ((bytes[reservedAt + 7] ?? 0) & fastBit) !== 0,
    extended: ((bytes[reservedAt + 5] ?? 0) & extendedBit) !== 0,
  };
}

/** Collects a handshake that comes in pieces. The first byte that cannot belong to one is refused, before the rest is there. */
export class HandshakeReader {
  #bytes: Buffer | undefined;
  #filled = 0;

  /** Returns the handshake and the bytes of `chunk` that come after it, or `undefined` when more is needed. Throws `wire-violation`. */
  push(chunk: Buffer): { handshake: Handshake; rest: Buffer } | undefined {
    // As nearly always it comes: whole.
    if (this.#filled === 0 && chunk.length >= handshakeBytes)
      return { handshake: parseHandshake(chunk), rest: chunk.subarray(handshakeBytes) };
    this.#bytes ??= Buffer.alloc(handshakeBytes);
    const count = Math.min(handshakeBytes - this.#filled, chunk.length);
    chunk.copy(this.#bytes, this.#filled, 0, count);
    this.#filled += count;
    checkProtocol(this.#bytes, Math.min(this.#filled, protocol.length));
    if (this.#filled < handshakeBytes) return undefined;
    return { handshake: parseHandshake(this.#bytes), rest: chunk.subarray(count) };
  }
}

/** Whether a connection that begins with these bytes may begin with a handshake. */
export function mayBeHandshake(bytes: Buffer): boolean {
  const count = Math.min(bytes.length, protocol.length);
  return bytes.subarray(0, count).equals(protocol.subarray(0, count));
}

function checkProtocol(bytes: Buffer, count: number): void {
  for (let at = 0; at < count; at++) {
    if (bytes[at] !== protocol[at])
      throw new NarswarmError('wire-violation', 'the peer does not speak BitTorrent', { offset: at });
  }
}
