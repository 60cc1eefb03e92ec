/**
 * A held NAR file on its way to Nix. It was right when it was kept, and disks and people change files: one that is read from its first byte
 * on is hashed meanwhile, and its end is given only if it is still the same. A small one is all end.
 */

import { createHash, type Hash } from 'node:crypto';
import { NarswarmError } from '../../nar/errors.ts';
import { type Sha256, sha256FromDigest } from '../../nar/hash.ts';
import type { NarFileHandle } from '../../store/nar-file-store.ts';

export class HeldReader {
  readonly #file: NarFileHandle;
  readonly #fileHash: Sha256;
  readonly #hash: Hash = createHash('sha256');
  #hashedBytes = 0;

  constructor(file: NarFileHandle, fileHash: Sha256) {
    this.#file = file;
    this.#fileHash = fileHash;
  }

  /** Throws file-hash-mismatch in place of the last bytes; of a part that does not begin with the first byte nothing can be said. */
  async read(position: number, lengthBytes: number): Promise<Buffer> {
    const bytes = await this.#file.read(position, lengthBytes);
    if (position !== this.#hashedBytes) return bytes;
    this.#hash.update(bytes);
    this.#hashedBytes += bytes.length;
    if (this.#hashedBytes < this.#file.sizeBytes) return bytes;
    const found = sha256FromDigest(this.#hash.digest());
    if (found === this.#fileHash) return bytes;
    throw new NarswarmError('file-hash-mismatch', `FileHash is ${found}, not ${this.#fileHash}`);
  }
}
