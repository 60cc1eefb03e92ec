/** The first bytes of an incoming connection: a plain handshake, or an encrypted one with the plain one in it or after it. */

import { EncryptedHandshake, type NamedTorrents } from './encrypted-handshake.ts';
import { type Handshake, HandshakeReader, mayBeHandshake } from './wire-handshake.ts';

export interface OpeningOptions {
  torrents: NamedTorrents;
  write: (bytes: Buffer) => void;
  /** Whether one more encrypted handshake may cost its time; asked once, when it begins. */
  mayDecrypt: () => boolean;
  /** The peer offers no plain stream. */
  insists: () => void;
}

const nothing = Buffer.alloc(0);

export class OpeningReader {
  readonly #options: OpeningOptions | undefined;
  #plain = new HandshakeReader();
  #encrypted: EncryptedHandshake | undefined;
  /** What came while both were possible; `undefined` once that is settled. */
  #undecided: Buffer | undefined = nothing;

  /** Without options, plain handshakes alone are read. */
  constructor(options: OpeningOptions | undefined) {
    this.#options = options;
  }

  /** As HandshakeReader.push. */
  push(chunk: Buffer): { handshake: Handshake; rest: Buffer } | undefined {
    if (this.#encrypted !== undefined) return this.#decrypt(this.#encrypted, chunk);
    if (this.#options === undefined || this.#undecided === undefined) return this.#plain.push(chunk);
    const bytes = this.#undecided.length === 0 ? chunk : Buffer.concat([this.#undecided, chunk]);
    if (mayBeHandshake(bytes) || !this.#options.mayDecrypt()) {
      this.#undecided = bytes.length >= 20 ? undefined : bytes;
      return this.#plain.push(chunk);
    }
    this.#plain = new HandshakeReader();
    this.#encrypted = new EncryptedHandshake(this.#options);
    return this.#decrypt(this.#encrypted, bytes);
  }

  #decrypt(encrypted: EncryptedHandshake, chunk: Buffer): { handshake: Handshake; rest: Buffer } | undefined {
    const opened = encrypted.push(chunk);
    if (opened === undefined) return undefined;
    this.#encrypted = undefined;
    this.#undecided = undefined;
    const bytes = Buffer.concat([opened.initial, opened.rest]);
    return bytes.length === 0 ? undefined : this.#plain.push(bytes);
  }
}
