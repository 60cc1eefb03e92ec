/** The tables of a seeder's log of records: see log.ts. One migration of schema.ts. */
export const logMigration = `
  -- What is to enter the log: written by the transaction that changes the row, and removed once a segment that holds it
  -- is on the disk. 'kind' as in log.ts, 'row' the id in the table of that kind.
  CREATE TABLE log_queue (
    seq INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    row INTEGER NOT NULL
  ) STRICT;

  -- How far the queue was read. The last row that was is not removed, so that numbers rise for ever.
  CREATE TABLE log_queue_position (
    id INTEGER PRIMARY KEY CHECK (id = 0),
    seq INTEGER NOT NULL
  ) STRICT;
  INSERT INTO log_queue_position VALUES (0, 0);

  -- Segments and views on the disk, also those that no head names any more but somebody may still be fetching.
  CREATE TABLE log_file (
    id INTEGER PRIMARY KEY,
    sha256 BLOB NOT NULL UNIQUE,
    size_bytes INTEGER NOT NULL,
    info_hash BLOB NOT NULL,
    pieces BLOB NOT NULL,
    retired_ms INTEGER
  ) STRICT;
  CREATE INDEX log_file_by_info_hash ON log_file (info_hash);

  -- The segments of the log, in order. Each says how far everything was when it ended.
  CREATE TABLE log_segment (
    records INTEGER PRIMARY KEY,
    chain BLOB NOT NULL,
    ordinals INTEGER NOT NULL,
    plain_bytes INTEGER NOT NULL,
    file INTEGER NOT NULL REFERENCES log_file
  ) STRICT;

  CREATE INDEX log_segment_by_file ON log_segment (file);

  CREATE TABLE log_view (
    name TEXT PRIMARY KEY,
    paths INTEGER NOT NULL,
    -- What it was made of, so that it is made again when that changes.
    made_of TEXT NOT NULL,
    file INTEGER NOT NULL REFERENCES log_file
  ) STRICT, WITHOUT ROWID;

  -- The number of each NAR file in the log, for ever; and of its torrentinfo that was published last, the first 16 bytes
  -- of the SHA-256, so that what did not change is not published again.
  CREATE TABLE log_ordinal (
    ordinal INTEGER PRIMARY KEY,
    file_hash BLOB NOT NULL UNIQUE,
    digest BLOB NOT NULL
  ) STRICT;
  CREATE TABLE log_narinfo (
    store_hash BLOB PRIMARY KEY,
    digest BLOB NOT NULL
  ) STRICT, WITHOUT ROWID;

  -- NAR files that were found wrong. Their rows are gone; this one stays.
  CREATE TABLE revocation (
    id INTEGER PRIMARY KEY,
    file_hash BLOB NOT NULL UNIQUE,
    info_hash BLOB,
    time INTEGER NOT NULL,
    reason TEXT NOT NULL
  ) STRICT;

  CREATE TRIGGER nar_file_logged AFTER INSERT ON nar_file BEGIN
    INSERT INTO log_queue (kind, row) VALUES (0, new.id);
  END;
  CREATE TRIGGER nar_file_logged_again AFTER UPDATE ON nar_file
  WHEN (old.file_size, old.compression, old.nar_hash, old.nar_size, old.info_hash, old.nar_info_hash, old.sigs)
    <> (new.file_size, new.compression, new.nar_hash, new.nar_size, new.info_hash, new.nar_info_hash, new.sigs) BEGIN
    INSERT INTO log_queue (kind, row) VALUES (0, new.id);
  END;
  CREATE TRIGGER narinfo_logged AFTER INSERT ON narinfo BEGIN
    INSERT INTO log_queue (kind, row) VALUES (1, new.id);
  END;
  CREATE TRIGGER narinfo_logged_again AFTER UPDATE ON narinfo
  WHEN (old.store_hash, old.nar_file, old.text) <> (new.store_hash, new.nar_file, new.text) BEGIN
    INSERT INTO log_queue (kind, row) VALUES (1, new.id);
  END;
  -- The next one takes its place.
  CREATE TRIGGER narinfo_succeeded AFTER DELETE ON narinfo BEGIN
    INSERT INTO log_queue (kind, row)
      SELECT 1, id FROM narinfo WHERE store_hash = old.store_hash ORDER BY id LIMIT 1;
  END;
  CREATE TRIGGER pack_logged AFTER UPDATE OF complete ON pack WHEN new.complete > old.complete BEGIN
    INSERT INTO log_queue (kind, row) VALUES (2, new.id);
  END;
  CREATE TRIGGER revocation_logged AFTER INSERT ON revocation BEGIN
    INSERT INTO log_queue (kind, row) VALUES (3, new.id);
  END;

  -- What an earlier version accepted. With a NAR file its narinfos enter too, and do so once.
  INSERT INTO log_queue (kind, row) SELECT 0, id FROM nar_file ORDER BY id;
  INSERT INTO log_queue (kind, row) SELECT 1, id FROM narinfo ORDER BY id;
  INSERT INTO log_queue (kind, row) SELECT 2, id FROM pack WHERE complete = 1 ORDER BY id;
`;
