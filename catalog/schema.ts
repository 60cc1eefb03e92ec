import { logMigration } from './log-schema.ts';

/**
 * The tables of a catalog. Migration n brings a database from schema n to n + 1 (`PRAGMA user_version`); a migration
 * that was released is never changed, only followed by another.
 *
 * Hashes are BLOBs, half the size of their text, and a lookup by any hash touches one index, one row and nothing
 * else.
 */
export const migrations: readonly string[] = [
  `
  CREATE TABLE source (
    id INTEGER PRIMARY KEY,
    url TEXT NOT NULL UNIQUE
  ) STRICT;

  -- A verified NAR file and what is signed about it.
  CREATE TABLE nar_file (
    id INTEGER PRIMARY KEY,
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
  CREATE INDEX nar_file_by_nar_info_hash ON nar_file (nar_info_hash);

  -- Piece hashes, apart, so that the rows above stay small. The key is twice the nar_file's, plus 1 for the torrent of
  -- the NAR itself, which an uncompressed NAR file does not have beside its own.
  CREATE TABLE piece_table (
    id INTEGER PRIMARY KEY,
    digests BLOB NOT NULL
  ) STRICT;

  -- An accepted narinfo, and where the NAR file lay when it was verified under it; path is NULL where only the narinfo
  -- was seen. The text comes last: it is long, and most lookups do not need it.
  CREATE TABLE narinfo (
    id INTEGER PRIMARY KEY,
    source INTEGER NOT NULL REFERENCES source,
    name TEXT NOT NULL,
    store_hash BLOB NOT NULL,
    url TEXT NOT NULL,
    nar_file INTEGER NOT NULL REFERENCES nar_file,
    fingerprint TEXT NOT NULL,
    path TEXT,
    size_bytes INTEGER,
    mtime_ns INTEGER,
    text TEXT NOT NULL
  ) STRICT;
  CREATE UNIQUE INDEX narinfo_by_name ON narinfo (source, name);
  CREATE INDEX narinfo_by_store_hash ON narinfo (store_hash);
  CREATE INDEX narinfo_by_url ON narinfo (url);
  CREATE INDEX narinfo_by_nar_file ON narinfo (nar_file);

  CREATE TABLE refusal (
    source INTEGER NOT NULL REFERENCES source,
    name TEXT NOT NULL,
    code TEXT NOT NULL,
    message TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    PRIMARY KEY (source, name)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;

  -- Counting rows would read every page of a table, so that the count is kept in the transaction that changes it.
  CREATE TABLE counter (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  INSERT INTO counter VALUES ('nars', 0), ('bytes', 0), ('narinfos', 0);

  CREATE TRIGGER nar_file_added AFTER INSERT ON nar_file BEGIN
    UPDATE counter SET value = value + 1 WHERE name = 'nars';
    UPDATE counter SET value = value + new.file_size WHERE name = 'bytes';
  END;
  CREATE TRIGGER nar_file_removed AFTER DELETE ON nar_file BEGIN
    UPDATE counter SET value = value - 1 WHERE name = 'nars';
    UPDATE counter SET value = value - old.file_size WHERE name = 'bytes';
  END;
  CREATE TRIGGER nar_file_resized AFTER UPDATE OF file_size ON nar_file BEGIN
    UPDATE counter SET value = value + new.file_size - old.file_size WHERE name = 'bytes';
  END;
  CREATE TRIGGER narinfo_added AFTER INSERT ON narinfo BEGIN
    UPDATE counter SET value = value + 1 WHERE name = 'narinfos';
  END;
  CREATE TRIGGER narinfo_removed AFTER DELETE ON narinfo BEGIN
    UPDATE counter SET value = value - 1 WHERE name = 'narinfos';
  END;
  CREATE TRIGGER refusal_added AFTER INSERT ON refusal BEGIN
    INSERT INTO counter VALUES ('rejected/' || new.code, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1;
  END;
  CREATE TRIGGER refusal_changed AFTER UPDATE OF code ON refusal BEGIN
    UPDATE counter SET value = value - 1 WHERE name = 'rejected/' || old.code;
    INSERT INTO counter VALUES ('rejected/' || new.code, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1;
  END;
  CREATE TRIGGER refusal_removed AFTER DELETE ON refusal BEGIN
    UPDATE counter SET value = value - 1 WHERE name = 'rejected/' || old.code;
  END;
  `,
  `
  -- What was uploaded of the torrent of a NAR file, for the upload policy. Only for those of which anything ever was.
  CREATE TABLE upload (
    info_hash BLOB PRIMARY KEY,
    capped INTEGER NOT NULL,
    uploaded_bytes INTEGER NOT NULL,
    round_bytes INTEGER NOT NULL,
    lonely_since_ms INTEGER
  ) STRICT, WITHOUT ROWID;
  INSERT INTO counter VALUES ('uploads/swarming', 0), ('uploads/capped', 0);

  CREATE TRIGGER upload_added AFTER INSERT ON upload BEGIN
    UPDATE counter SET value = value + 1 WHERE name = iif(new.capped, 'uploads/capped', 'uploads/swarming');
  END;
  CREATE TRIGGER upload_moved AFTER UPDATE OF capped ON upload WHEN old.capped <> new.capped BEGIN
    UPDATE counter SET value = value - 1 WHERE name = iif(old.capped, 'uploads/capped', 'uploads/swarming');
    UPDATE counter SET value = value + 1 WHERE name = iif(new.capped, 'uploads/capped', 'uploads/swarming');
  END;
  CREATE TRIGGER upload_removed AFTER DELETE ON upload BEGIN
    UPDATE counter SET value = value - 1 WHERE name = iif(old.capped, 'uploads/capped', 'uploads/swarming');
  END;
  CREATE TRIGGER upload_of_nobody AFTER DELETE ON nar_file BEGIN
    DELETE FROM upload WHERE info_hash = old.info_hash;
  END;
  `,
  `
  -- Packs that are closed. 'complete' is 0 while their NAR files are still being noted down.
  CREATE TABLE pack (
    id INTEGER PRIMARY KEY,
    info_hash BLOB NOT NULL UNIQUE,
    length INTEGER NOT NULL,
    meta_bytes INTEGER NOT NULL,
    nars INTEGER NOT NULL,
    closed_ms INTEGER NOT NULL,
    complete INTEGER NOT NULL
  ) STRICT;

  -- The manifest and the info dictionary of a pack, apart: each has half a megabyte or more.
  CREATE TABLE pack_text (
    pack INTEGER PRIMARY KEY REFERENCES pack,
    manifest TEXT NOT NULL,
    info BLOB NOT NULL
  ) STRICT;

  -- Where each NAR file lies in its pack, also of those that went away meanwhile: a pack never changes.
  CREATE TABLE pack_nar (
    pack INTEGER NOT NULL REFERENCES pack,
    start INTEGER NOT NULL,
    file_hash BLOB NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (pack, start)
  ) STRICT, WITHOUT ROWID;
  CREATE UNIQUE INDEX pack_nar_by_file_hash ON pack_nar (file_hash);

  -- NAR files of at most 1 MiB that are in no pack.
  CREATE TABLE unpacked (
    nar_file INTEGER PRIMARY KEY,
    size INTEGER NOT NULL,
    since_ms INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX unpacked_by_age ON unpacked (since_ms);
  INSERT INTO unpacked SELECT id, file_size, CAST(unixepoch('subsec') * 1000 AS INTEGER) FROM nar_file
    WHERE file_size <= 1048576;

  INSERT INTO counter VALUES ('packs/closed', 0), ('packs/nars', 0), ('packs/bytes', 0);
  INSERT INTO counter SELECT 'unpacked/nars', count(*) FROM unpacked;
  INSERT INTO counter SELECT 'unpacked/bytes', coalesce(sum(size), 0) FROM unpacked;

  CREATE TRIGGER nar_file_unpacked AFTER INSERT ON nar_file
  WHEN new.file_size <= 1048576 AND NOT EXISTS (SELECT 1 FROM pack_nar WHERE file_hash = new.file_hash) BEGIN
    INSERT INTO unpacked VALUES (new.id, new.file_size, CAST(unixepoch('subsec') * 1000 AS INTEGER));
  END;
  CREATE TRIGGER nar_file_never_packed AFTER DELETE ON nar_file BEGIN
    DELETE FROM unpacked WHERE nar_file = old.id;
  END;
  CREATE TRIGGER nar_file_packed AFTER INSERT ON pack_nar BEGIN
    DELETE FROM unpacked WHERE nar_file = (SELECT id FROM nar_file WHERE file_hash = new.file_hash);
  END;
  CREATE TRIGGER unpacked_added AFTER INSERT ON unpacked BEGIN
    UPDATE counter SET value = value + 1 WHERE name = 'unpacked/nars';
    UPDATE counter SET value = value + new.size WHERE name = 'unpacked/bytes';
  END;
  CREATE TRIGGER unpacked_removed AFTER DELETE ON unpacked BEGIN
    UPDATE counter SET value = value - 1 WHERE name = 'unpacked/nars';
    UPDATE counter SET value = value - old.size WHERE name = 'unpacked/bytes';
  END;
  CREATE TRIGGER pack_completed AFTER UPDATE OF complete ON pack WHEN new.complete > old.complete BEGIN
    UPDATE counter SET value = value + 1 WHERE name = 'packs/closed';
    UPDATE counter SET value = value + new.nars WHERE name = 'packs/nars';
    UPDATE counter SET value = value + new.length WHERE name = 'packs/bytes';
  END;
  `,
  logMigration,
];
