/** The tables of a followed catalog. A migration that was released is never changed, only followed by another. */

import type { DatabaseKind } from './database.ts';

const migrations: readonly string[] = [
  `
  CREATE TABLE state (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;

  -- How far the log was read: always in the transaction that takes in the records.
  CREATE TABLE position (
    id INTEGER PRIMARY KEY CHECK (id = 0),
    records INTEGER NOT NULL,
    chain BLOB NOT NULL,
    -- Torrentinfo records so far: the next one has this number.
    ordinals INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE nar_file (
    ordinal INTEGER PRIMARY KEY,
    file_hash BLOB NOT NULL,
    file_size INTEGER NOT NULL,
    compression TEXT NOT NULL,
    nar_hash BLOB NOT NULL,
    nar_size INTEGER NOT NULL,
    info_hash BLOB NOT NULL,
    nar_info_hash BLOB NOT NULL,
    sigs TEXT NOT NULL
  ) STRICT;
  CREATE UNIQUE INDEX nar_file_by_file_hash ON nar_file (file_hash);
  CREATE INDEX nar_file_by_info_hash ON nar_file (info_hash);

  -- The text comes last: it is long, and most lookups do not need it.
  CREATE TABLE narinfo (
    id INTEGER PRIMARY KEY,
    store_hash BLOB NOT NULL,
    ordinal INTEGER NOT NULL,
    text TEXT NOT NULL
  ) STRICT;
  CREATE UNIQUE INDEX narinfo_by_store_hash ON narinfo (store_hash);
  CREATE INDEX narinfo_by_ordinal ON narinfo (ordinal);

  CREATE TABLE pack (
    id INTEGER PRIMARY KEY,
    info_hash BLOB NOT NULL UNIQUE,
    manifest TEXT NOT NULL
  ) STRICT;
  CREATE TABLE packed_file (
    file_hash BLOB PRIMARY KEY,
    pack INTEGER NOT NULL REFERENCES pack,
    offset INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE revocation (
    file_hash BLOB PRIMARY KEY,
    time INTEGER NOT NULL,
    reason TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
];

export const followedKind: DatabaseKind = {
  /** "narf" */
  applicationId: 0x6e617266,
  migrations,
  name: 'followed catalog',
};
