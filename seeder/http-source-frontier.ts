/**
 * Store paths that a walk along References has met, and those of them that are still to be looked at. In a temporary database on
 * disk, so that memory is flat in the size of the closure; a killed walk begins again, which costs no request for what
 * is in the catalog.
 */

import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { nix32Decode, nix32Encode } from '../nar/nix32.ts';
import { parseStoreHash, type StoreHash } from '../nar/store-path.ts';

/** Memory for the pages of the database. */
const cacheBytes = 8 * 1024 * 1024;

export class Frontier {
  readonly #db: DatabaseSync;
  readonly #add: StatementSync;
  readonly #next: StatementSync;
  #last = 0;

  constructor() {
    // SQLite removes a database without a name by itself, also when the process is killed.
    this.#db = new DatabaseSync('');
    this.#db.exec(
      `PRAGMA cache_size = ${-cacheBytes / 1024}; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF`,
    );
    this.#db.exec('CREATE TABLE met (id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE) STRICT');
    this.#add = this.#db.prepare('INSERT OR IGNORE INTO met (hash) VALUES (?)');
    this.#next = this.#db.prepare('SELECT id, hash FROM met WHERE id > ? ORDER BY id LIMIT 1');
  }

  /** Whether it is met for the first time. */
  add(hash: StoreHash): boolean {
    return this.#add.run(nix32Decode(hash)).changes === 1;
  }

  /** The next one to look at, in the order in which they were met. */
  next(): StoreHash | undefined {
    const row = this.#next.get(this.#last);
    if (row === undefined || !(row.hash instanceof Uint8Array)) return undefined;
    this.#last = Number(row.id);
    return parseStoreHash(nix32Encode(row.hash));
  }

  close(): void {
    if (this.#db.isOpen) this.#db.close();
  }
}
