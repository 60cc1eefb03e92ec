/** Every statement on a catalog. Each is prepared once, when the catalog is opened. */

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { entryColumns, entryTables } from './rows.ts';

const sourceOf = '(SELECT id FROM source WHERE url = ?)';

const filePieces = 'JOIN piece_table p ON p.id = 2 * f.id';

const statements = {
  entryByFileHash: `SELECT f.id, ${entryColumns} FROM ${entryTables} WHERE f.file_hash = ?`,
  entryByInfoHash: `SELECT ${entryColumns} FROM ${entryTables} WHERE f.info_hash = ? LIMIT 1`,
  // The oldest, so that the answer does not change while it is there.
  entryByNarInfoHash: `SELECT ${entryColumns} FROM ${entryTables} WHERE f.nar_info_hash = ? ORDER BY f.id LIMIT 1`,
  entryByUrl: `
    SELECT ${entryColumns} FROM ${entryTables}
    WHERE f.id = (SELECT nar_file FROM narinfo WHERE url = ? ORDER BY id LIMIT 1)`,
  entries: `SELECT ${entryColumns} FROM ${entryTables} WHERE f.file_hash > ? ORDER BY f.file_hash LIMIT ?`,

  // The piece hashes in the same statement: half the time of two, and this is what every handshake and resolve waits for.
  fileByFileHash: `SELECT ${entryColumns}, p.digests FROM ${entryTables} ${filePieces} WHERE f.file_hash = ?`,
  fileByInfoHash: `SELECT ${entryColumns}, p.digests FROM ${entryTables} ${filePieces} WHERE f.info_hash = ? LIMIT 1`,

  newest: `SELECT ${entryColumns} FROM ${entryTables} ORDER BY f.id DESC LIMIT ?`,
  newestAlone: `
    SELECT ${entryColumns} FROM ${entryTables}
    WHERE f.id IN (SELECT id FROM nar_file ORDER BY id DESC LIMIT ?1)
    AND NOT EXISTS (SELECT 1 FROM unpacked WHERE nar_file = f.id)
    AND NOT EXISTS (SELECT 1 FROM pack_nar WHERE file_hash = f.file_hash)
    ORDER BY f.id DESC LIMIT ?2`,

  piecesOfFile: `
    SELECT digests FROM piece_table
    WHERE id = (SELECT 2 * id FROM nar_file WHERE info_hash = ? LIMIT 1)`,
  piecesOfNar: `
    SELECT digests FROM piece_table
    WHERE id = (SELECT 2 * id + 1 FROM nar_file WHERE nar_info_hash = ? ORDER BY id LIMIT 1)`,
  hasFileOfInfoHash: 'SELECT 1 FROM nar_file WHERE info_hash = ? LIMIT 1',
  hasInfoHash: `
    SELECT 1 WHERE EXISTS (SELECT 1 FROM nar_file WHERE info_hash = ?)
    OR EXISTS (SELECT 1 FROM nar_file WHERE nar_info_hash = ?)`,
  infoHashes: 'SELECT id, info_hash, nar_info_hash FROM nar_file WHERE id > ? ORDER BY id LIMIT ?',

  narInfoOfFile:
    'SELECT n.text FROM narinfo n JOIN nar_file f ON f.id = n.nar_file WHERE f.file_hash = ? LIMIT 1',
  narInfoText: 'SELECT text FROM narinfo WHERE store_hash = ? ORDER BY id LIMIT 1',
  narInfoNames: `SELECT name FROM narinfo WHERE source = ${sourceOf} AND name > ? ORDER BY name LIMIT ?`,
  knownAccepted: `SELECT fingerprint FROM narinfo WHERE source = ${sourceOf} AND name = ?`,
  knownRefused: `SELECT fingerprint FROM refusal WHERE source = ${sourceOf} AND name = ?`,
  narFileOfNarInfo: `SELECT nar_file FROM narinfo WHERE source = ${sourceOf} AND name = ?`,
  locationByUrl: `
    SELECT path, size_bytes, CAST(mtime_ns AS TEXT) AS mtime_ns FROM narinfo
    WHERE source = ${sourceOf} AND url = ? AND nar_file = ? AND path IS NOT NULL ORDER BY id DESC LIMIT 1`,
  isHeld: 'SELECT 1 FROM narinfo WHERE nar_file = ? AND path IS NOT NULL LIMIT 1',
  refusals: `
    SELECT s.url AS source, r.name, r.code, r.message, r.fingerprint FROM refusal r JOIN source s ON s.id = r.source
    WHERE (r.source, r.name) > (?, ?) ORDER BY r.source, r.name LIMIT ?`,
  upload: 'SELECT capped, uploaded_bytes, round_bytes, lonely_since_ms FROM upload WHERE info_hash = ?',
  counters: 'SELECT name, value FROM counter',
  sources: 'SELECT url FROM source ORDER BY id',
  sourceId: 'SELECT id FROM source WHERE url = ?',
  getMeta: 'SELECT value FROM meta WHERE key = ?',

  addSource: 'INSERT INTO source (url) VALUES (?) RETURNING id',
  setMeta: 'INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
  putNarFile: `
    INSERT INTO nar_file (file_hash, file_size, compression, nar_hash, nar_size, info_hash, nar_info_hash, sigs)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (file_hash) DO UPDATE SET file_size = excluded.file_size, compression = excluded.compression,
      nar_hash = excluded.nar_hash, nar_size = excluded.nar_size, info_hash = excluded.info_hash,
      nar_info_hash = excluded.nar_info_hash, sigs = excluded.sigs
    RETURNING id`,
  putPieces:
    'INSERT INTO piece_table VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET digests = excluded.digests',
  putNarInfo: `
    INSERT INTO narinfo (source, name, store_hash, url, nar_file, fingerprint, path, size_bytes, mtime_ns, text)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (source, name) DO UPDATE SET store_hash = excluded.store_hash, url = excluded.url,
      nar_file = excluded.nar_file, fingerprint = excluded.fingerprint, path = excluded.path,
      size_bytes = excluded.size_bytes, mtime_ns = excluded.mtime_ns, text = excluded.text`,
  putRefusal: `
    INSERT INTO refusal VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (source, name) DO UPDATE SET code = excluded.code, message = excluded.message,
      fingerprint = excluded.fingerprint`,
  // Never for a NAR file that is gone: whoever still reads it would leave a row that nobody removes. Packs stay.
  putUpload: `
    INSERT INTO upload SELECT ?1, ?2, ?3, ?4, ?5
    WHERE EXISTS (SELECT 1 FROM nar_file WHERE info_hash = ?1) OR EXISTS (SELECT 1 FROM pack WHERE info_hash = ?1)
    ON CONFLICT (info_hash) DO UPDATE SET capped = excluded.capped, uploaded_bytes = excluded.uploaded_bytes,
      round_bytes = excluded.round_bytes, lonely_since_ms = excluded.lonely_since_ms`,
  dropRefusal: `DELETE FROM refusal WHERE source = ${sourceOf} AND name = ?`,
  dropNarInfo: `DELETE FROM narinfo WHERE source = ${sourceOf} AND name = ? RETURNING nar_file`,
  dropNarInfosOfFile: 'DELETE FROM narinfo WHERE nar_file = ?',
  dropPieces: 'DELETE FROM piece_table WHERE id BETWEEN ? AND ?',
  dropNarFile: 'DELETE FROM nar_file WHERE id = ?',
} as const;

export type Statements = Record<keyof typeof statements, StatementSync>;

export function prepareStatements(db: DatabaseSync): Statements {
  const entries = Object.entries(statements).map(([name, sql]) => [name, db.prepare(sql)] as const);
  return Object.fromEntries(entries) as Statements;
}
