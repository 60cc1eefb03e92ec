/**
 * A held NAR file on its way to Nix. It was right when it was kept, and disks and people change files: one that is read from its first byte
 * on is hashed meanwhile, and its end is given only if it is still the same. A small one is all end, whatever part of it is asked for.
 */

import { createHash, type Hash, hash } from 'node:crypto';
import { NarswarmError } from '../../nar/errors.ts';
import { type Sha256, sha256FromDigest } from '../../nar/hash.ts';
import type { NarFileHandle } from '../../store/nar-file-store.ts';

/** Files up to this size are read as a whole for any part of them: that takes a millisecond. */
const wholeBytes = 1024 * 1024;

export class HeldReader {
  readonly #file: NarFileHandle;
  readonly #fileHash: Sha256;
  readonly #hash: Hash = createHash('sha256');
  #hashedBytes = 0;
  /** All of a small one, compared. */
  #whole: Buffer | undefined;

  constructor(file: NarFileHandle, fileHash: Sha256) {
    this.#file = file;
    this.#fileHash = fileHash;
  }

  /**
   * Throws file-hash-mismatch in place of the last bytes. Of a part of a large one that does not begin with the first byte all is known that the
   * file system tells: it is as it was when it was compared last.
   */
  async read(position: number, lengthBytes: number): Promise<Buffer> {
    const { sizeBytes } = this.#file;
    if (sizeBytes <= wholeBytes && lengthBytes < sizeBytes)
      return (await this.#readWhole()).subarray(position, position + lengthBytes);
    const bytes = await this.#file.read(position, lengthBytes);
    if (position !== this.#hashedBytes) return bytes;
    this.#hash.update(bytes);
    this.#hashedBytes += bytes.length;
    if (this.#hashedBytes === sizeBytes) this.#compare(this.#hash.digest());
    return bytes;
  }

  async #readWhole(): Promise<Buffer> {
    if (this.#whole === undefined) {
      const bytes = await this.#file.read(0, this.#file.sizeBytes);
      this.#compare(hash('sha256', bytes, 'buffer'));
      this.#whole = bytes;
    }
    return this.#whole;
  }

  #compare(digest: Buffer): void {
    const found = sha256FromDigest(digest);
    if (found !== this.#fileHash)
      throw new NarswarmError('file-hash-mismatch', `FileHash is ${found}, not ${this.#fileHash}`);
  }
}
