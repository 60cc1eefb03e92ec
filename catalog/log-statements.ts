/** Every statement on the log of a catalog. Each is prepared once, when the catalog is opened. */

import type { DatabaseSync } from 'node:sqlite';

export type LogStatements = ReturnType<typeof prepareLogStatements>;

const fileColumns = 'f.sha256, f.size_bytes, f.info_hash';
const segmentColumns = `s.records, s.chain, s.ordinals, s.plain_bytes, ${fileColumns}`;
const revocationColumns = 'id, file_hash, info_hash, time, reason';
/** A narinfo that is served: of one store hash, the one that was accepted first. */
const servedNarInfo = `
  SELECT n.id, n.store_hash, n.text, n.nar_file, f.file_hash FROM narinfo n JOIN nar_file f ON f.id = n.nar_file
  WHERE n.id = (SELECT min(id) FROM narinfo WHERE store_hash = n.store_hash)`;

export function prepareLogStatements(db: DatabaseSync) {
  return {
    end: db.prepare('SELECT records, ordinals FROM log_segment ORDER BY records DESC LIMIT 1'),
    queueSeq: db.prepare('SELECT seq FROM log_queue_position'),
    putQueueSeq: db.prepare('UPDATE log_queue_position SET seq = ?'),
    lastQueued: db.prepare('SELECT coalesce(max(seq), 0) AS seq FROM log_queue'),
    pending: db.prepare('SELECT 1 FROM log_queue WHERE seq > ? LIMIT 1'),
    pendingCount: db.prepare('SELECT count(*) AS count FROM (SELECT 1 FROM log_queue WHERE seq > ? LIMIT ?)'),
    queued: db.prepare('SELECT seq, kind, row FROM log_queue WHERE seq > ? ORDER BY seq LIMIT ?'),
    lastSegment: db.prepare(
      `SELECT ${segmentColumns} FROM log_segment s JOIN log_file f ON f.id = s.file ORDER BY s.records DESC LIMIT 1`,
    ),
    segments: db.prepare(
      `SELECT ${segmentColumns} FROM log_segment s JOIN log_file f ON f.id = s.file ORDER BY s.records`,
    ),
    segmentCount: db.prepare('SELECT count(*) AS count FROM log_segment'),
    views: db.prepare(
      `SELECT v.name, v.paths, v.made_of, ${fileColumns} FROM log_view v JOIN log_file f ON f.id = v.file ORDER BY v.name`,
    ),
    fileByInfoHash: db.prepare(
      `SELECT ${fileColumns}, f.pieces FROM log_file f WHERE f.info_hash = ? LIMIT 1`,
    ),
    hasFile: db.prepare('SELECT 1 FROM log_file WHERE info_hash = ? LIMIT 1'),
    ordinal: db.prepare('SELECT ordinal, digest FROM log_ordinal WHERE file_hash = ?'),
    byOrdinal: db.prepare('SELECT file_hash FROM log_ordinal WHERE ordinal = ?'),
    narInfoDigest: db.prepare('SELECT digest FROM log_narinfo WHERE store_hash = ?'),
    narFileRow: db.prepare(`
      SELECT id, file_hash, file_size, compression, nar_hash, nar_size, info_hash, nar_info_hash, sigs
      FROM nar_file WHERE id = ?`),
    narInfoRowsOf: db.prepare(`${servedNarInfo} AND n.nar_file = ? ORDER BY n.id`),
    narInfoRow: db.prepare(`${servedNarInfo} AND n.id = ?`),
    narInfoByStoreHash: db.prepare(`
      SELECT n.store_hash, n.text, n.nar_file, f.file_hash FROM narinfo n JOIN nar_file f ON f.id = n.nar_file
      WHERE n.store_hash = ? ORDER BY n.id LIMIT 1`),
    narFileByHash: db.prepare(`
      SELECT id, file_hash, file_size, compression, nar_hash, nar_size, info_hash, nar_info_hash, sigs
      FROM nar_file WHERE file_hash = ?`),
    packRow: db.prepare(
      'SELECT p.info_hash, t.manifest FROM pack p JOIN pack_text t ON t.pack = p.id WHERE p.id = ? AND p.complete = 1',
    ),
    revocation: db.prepare(`SELECT ${revocationColumns} FROM revocation WHERE file_hash = ?`),
    revokedCount: db.prepare('SELECT count(*) AS count FROM revocation'),
    fileHashesOf: db.prepare(
      'SELECT DISTINCT f.file_hash FROM narinfo n JOIN nar_file f ON f.id = n.nar_file WHERE n.store_hash = ?',
    ),
    lastRevocation: db.prepare('SELECT coalesce(max(id), 0) AS id FROM revocation'),
    revocationRow: db.prepare(`SELECT ${revocationColumns} FROM revocation WHERE id = ?`),
    revocations: db.prepare(`SELECT ${revocationColumns} FROM revocation WHERE id > ? ORDER BY id LIMIT ?`),
    dropOrdinals: db.prepare(
      'DELETE FROM log_ordinal WHERE ordinal IN (SELECT ordinal FROM log_ordinal WHERE ordinal >= ? LIMIT ?)',
    ),
    dropQueued: db.prepare(
      'DELETE FROM log_queue WHERE seq IN (SELECT seq FROM log_queue WHERE seq < ? ORDER BY seq LIMIT ?)',
    ),
    putOrdinal: db.prepare('INSERT INTO log_ordinal VALUES (?, ?, ?)'),
    putDigest: db.prepare('UPDATE log_ordinal SET digest = ? WHERE file_hash = ?'),
    putNarInfoDigest: db.prepare(
      'INSERT INTO log_narinfo VALUES (?, ?) ON CONFLICT (store_hash) DO UPDATE SET digest = excluded.digest',
    ),
    putFile: db.prepare(`
      INSERT INTO log_file (sha256, size_bytes, info_hash, pieces) VALUES (?, ?, ?, ?)
      ON CONFLICT (sha256) DO UPDATE SET retired_ms = NULL RETURNING id`),
    putSegment: db.prepare('INSERT INTO log_segment VALUES (?, ?, ?, ?, ?)'),
    dropSegment: db.prepare('DELETE FROM log_segment WHERE records = ?'),
    putView: db.prepare(`
      INSERT INTO log_view VALUES (?, ?, ?, ?)
      ON CONFLICT (name) DO UPDATE SET paths = excluded.paths, made_of = excluded.made_of, file = excluded.file`),
    dropView: db.prepare('DELETE FROM log_view WHERE name = ?'),
    retire: db.prepare(`
      UPDATE log_file SET retired_ms = ? WHERE retired_ms IS NULL
        AND NOT EXISTS (SELECT 1 FROM log_segment WHERE file = log_file.id)
        AND NOT EXISTS (SELECT 1 FROM log_view WHERE file = log_file.id)`),
    retiredBefore: db.prepare('SELECT sha256 FROM log_file WHERE retired_ms < ?'),
    dropFile: db.prepare('DELETE FROM log_file WHERE sha256 = ? AND retired_ms IS NOT NULL'),
    getMeta: db.prepare('SELECT value FROM meta WHERE key = ?'),
    setMeta: db.prepare(
      'INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
    ),
  };
}
