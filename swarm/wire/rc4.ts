/** The RC4 cipher, for the encrypted handshake alone: OpenSSL has put it aside. It hides nothing that matters here. */

export class Rc4 {
  readonly #state = Uint8Array.from({ length: 256 }, (_, index) => index);
  #i = 0;
  #j = 0;

  /** `key` is 1 to 256 bytes. */
  constructor(key: Buffer) {
    const state = this.#state;
    for (let i = 0, j = 0; i < 256; i++) {
      j = (j + (state[i] ?? 0) + (key[i % key.length] ?? 0)) & 0xff;
      const kept = state[i] ?? 0;
      state[i] = state[j] ?? 0;
      state[j] = kept;
    }
  }

  /** Encrypts or decrypts, which is the same: a copy, and the cipher moves on by as many bytes. */
  apply(bytes: Buffer): Buffer {
    const state = this.#state;
    const out = Buffer.allocUnsafe(bytes.length);
    let [i, j] = [this.#i, this.#j];
    for (let at = 0; at < bytes.length; at++) {
      i = (i + 1) & 0xff;
      const a = state[i] ?? 0;
      j = (j + a) & 0xff;
      const b = state[j] ?? 0;
      state[i] = b;
      state[j] = a;
      out[at] = (bytes[at] ?? 0) ^ (state[(a + b) & 0xff] ?? 0);
    }
    this.#i = i;
    this.#j = j;
    return out;
  }
}
