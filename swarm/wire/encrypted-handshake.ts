/**
 * Message Stream Encryption, the answering side (https://wiki.vuze.com/w/Message_Stream_Encryption). webtorrent connects in no other
 * way as it comes.
 *
 * Only the handshake is encrypted: of what the peer offers we choose the plain stream, which all programs offer that do not
 * insist on encryption. NAR files are public, and RC4 would cost more than all the rest of sending them: 20 s a GiB.
 *
 * The peer names its torrent by a hash that is not the infohash, so it can only be found among those that are kept ready for it.
 */
import { createHash, randomBytes } from 'node:crypto';
import { NarswarmError } from '../../nar/errors.ts';
import type { InfoHash } from '../../nar/hash.ts';
import { infoHashToDigest } from '../../nar/hash.ts';
import { Rc4 } from './rc4.ts';

/** The group that everybody uses: a safe prime of 768 bits, generator 2. */
export const mseKeyBytes = 96;
export const msePrime =
  0xffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a63a36210000000000090563n;
const generator = 2n;

/** Bytes of padding that may come before each of the two marks. */
const paddingMaxBytes = 512;
/** Bytes of the first message that a peer may put into the handshake: BitTorrent's own handshake is 68. */
const initialMaxBytes = 1024;
/** The key is as good as random, but its first kilobyte of stream is known to be weak, so it is thrown away. */
const discardedBytes = 1024;
const plainMethod = 1;

/** One for the whole process, so that a handshake costs one exponentiation and not two. It keeps no secret of ours. */
const privateKey = toNumber(randomBytes(20));
const publicKey = toBytes(power(generator, privateKey));

/** Torrents that a peer may name by a hash: the least recently added one goes. One is about 250 bytes. */
export class NamedTorrents {
  readonly #max: number;
  readonly #byDigest = new Map<string, InfoHash>();

  constructor(max: number) {
    this.#max = max;
  }

  add(infoHash: InfoHash): void {
    const digest = namedBy(infoHash);
    this.#byDigest.delete(digest);
    this.#byDigest.set(digest, infoHash);
    if (this.#byDigest.size <= this.#max) return;
    const [oldest] = this.#byDigest.keys();
    if (oldest !== undefined) this.#byDigest.delete(oldest);
  }

  find(digest: Buffer): InfoHash | undefined {
    return this.#byDigest.get(digest.toString('latin1'));
  }
}

function namedBy(infoHash: InfoHash): string {
  return sha1('req2', infoHashToDigest(infoHash)).toString('latin1');
}

export interface EncryptedHandshakeOptions {
  torrents: NamedTorrents;
  write: (bytes: Buffer) => void;
  /** The peer offers no plain stream, and is refused. */
  insists: () => void;
}

/** What the peer said within the handshake, in the clear, and what came after it. */
export interface Opened {
  initial: Buffer;
  rest: Buffer;
}

export class EncryptedHandshake {
  readonly #options: EncryptedHandshakeOptions;
  #step: (() => boolean) | undefined = () => this.#readKey();
  /** What was not used yet: at most the longest step. */
  #bytes: Buffer = Buffer.alloc(0);
  #secret: Buffer = Buffer.alloc(0);
  #mark: Buffer = Buffer.alloc(0);
  #ciphers: { theirs: Rc4; ours: Rc4 } | undefined;
  #paddingBytes = 0;
  #initialBytes = 0;
  #initial: Buffer = Buffer.alloc(0);

  constructor(options: EncryptedHandshakeOptions) {
    this.#options = options;
  }

  /** Returns what was opened, or `undefined` when more is needed. Throws `wire-violation`. */
  push(chunk: Buffer): Opened | undefined {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    while (this.#step?.() === true);
    return this.#step === undefined ? { initial: this.#initial, rest: this.#bytes } : undefined;
  }

  /** Each step returns false when it needs more bytes. */
  #readKey(): boolean {
    if (this.#bytes.length < mseKeyBytes) return false;
    const theirs = toNumber(this.#take(mseKeyBytes));
    if (theirs <= 1n || theirs >= msePrime - 1n) throw refused('a key that is none');
    this.#secret = toBytes(power(theirs, privateKey));
    this.#mark = sha1('req1', this.#secret);
    this.#options.write(publicKey);
    this.#step = () => this.#findMark();
    return true;
  }

  #findMark(): boolean {
    const at = this.#bytes.subarray(0, paddingMaxBytes + this.#mark.length).indexOf(this.#mark);
    if (at < 0 && this.#bytes.length >= paddingMaxBytes + this.#mark.length)
      throw refused('neither a handshake nor an encrypted one');
    if (at < 0 || this.#bytes.length < at + 40) return false;
    this.#take(at + 20);
    const infoHash = this.#options.torrents.find(xor(this.#take(20), sha1('req3', this.#secret)));
    // The peer tries again with a plain handshake, which tells the infohash.
    if (infoHash === undefined) throw refused('a torrent that nobody was told about lately');
    const skey = infoHashToDigest(infoHash);
    this.#ciphers = { theirs: cipher('keyA', this.#secret, skey), ours: cipher('keyB', this.#secret, skey) };
    this.#step = () => this.#readOffer();
    return true;
  }

  #readOffer(): boolean {
    const fields = this.#decrypt(14);
    if (fields === undefined) return false;
    if (!fields.subarray(0, 8).equals(Buffer.alloc(8))) throw refused('an encrypted handshake that is none');
    if ((fields.readUInt32BE(8) & plainMethod) === 0) {
      this.#options.insists();
      throw refused('an offer without a plain stream');
    }
    this.#paddingBytes = fields.readUInt16BE(12);
    if (this.#paddingBytes > paddingMaxBytes) throw refused('too much padding');
    this.#step = () => this.#readPadding();
    return true;
  }

  #readPadding(): boolean {
    const fields = this.#decrypt(this.#paddingBytes + 2);
    if (fields === undefined) return false;
    this.#initialBytes = fields.readUInt16BE(this.#paddingBytes);
    if (this.#initialBytes > initialMaxBytes) throw refused('too long a first message');
    this.#step = () => this.#readInitial();
    return true;
  }

  #readInitial(): boolean {
    const initial = this.#decrypt(this.#initialBytes);
    if (initial === undefined) return false;
    this.#initial = initial;
    const answer = Buffer.alloc(14);
    answer.writeUInt32BE(plainMethod, 8);
    if (this.#ciphers !== undefined) this.#options.write(this.#ciphers.ours.apply(answer));
    this.#step = undefined;
    return false;
  }

  #decrypt(count: number): Buffer | undefined {
    return this.#bytes.length < count ? undefined : this.#ciphers?.theirs.apply(this.#take(count));
  }

  #take(count: number): Buffer {
    const taken = this.#bytes.subarray(0, count);
    this.#bytes = this.#bytes.subarray(count);
    return taken;
  }
}

function cipher(name: string, secret: Buffer, skey: Uint8Array): Rc4 {
  const rc4 = new Rc4(sha1(name, secret, skey));
  rc4.apply(Buffer.alloc(discardedBytes));
  return rc4;
}

function sha1(name: string, ...parts: readonly Uint8Array[]): Buffer {
  const hash = createHash('sha1').update(name);
  for (const part of parts) hash.update(part);
  return hash.digest();
}

function xor(a: Buffer, b: Buffer): Buffer {
  return Buffer.from(a.map((byte, at) => byte ^ (b[at] ?? 0)));
}

function toNumber(bytes: Buffer): bigint {
  return BigInt(`0x${bytes.toString('hex')}`);
}

function toBytes(number: bigint): Buffer {
  return Buffer.from(number.toString(16).padStart(2 * mseKeyBytes, '0'), 'hex');
}

/** `base` to the power of `exponent`, modulo the prime: half a millisecond. Not in constant time, since there is no secret. */
function power(base: bigint, exponent: bigint): bigint {
  let result = 1n;
  for (let square = base, rest = exponent; rest > 0n; rest >>= 1n) {
    if ((rest & 1n) === 1n) result = (result * square) % msePrime;
    square = (square * square) % msePrime;
  }
  return result;
}

function refused(what: string): NarswarmError {
  return new NarswarmError('wire-violation', `the peer sent ${what}`);
}
