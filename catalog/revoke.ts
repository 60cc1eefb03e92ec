/** Takes a NAR file out of a catalog for good. */

import type { DatabaseSync } from 'node:sqlite';
import type { ErrorCode } from '../nar/errors.ts';
import { type InfoHash, infoHashFromDigest, type Sha256, sha256ToDigest } from '../nar/hash.ts';
import { bytesOf, numberOf, textOf } from './rows.ts';

const code: ErrorCode = 'revoked';

/**
 * Inside a transaction. Its narinfos become refusals with the same fingerprints, so that no scan reads it again. Gives the torrent that it
 * had; `already` when it was revoked before, which changes nothing.
 */
export function revokeNarFile(
  db: DatabaseSync,
  fileHash: Sha256,
  { time, reason }: { time: number; reason: string },
): { already: boolean; infoHash: InfoHash | undefined } {
  const digest = sha256ToDigest(fileHash);
  const row = db.prepare('SELECT id, info_hash FROM nar_file WHERE file_hash = ?').get(digest);
  const added = db
    .prepare(
      'INSERT INTO revocation (file_hash, info_hash, time, reason) VALUES (?, ?, ?, ?) ON CONFLICT (file_hash) DO NOTHING',
    )
    .run(digest, row === undefined ? null : bytesOf(row, 'info_hash'), time, reason);
  if (row === undefined) return { already: added.changes === 0, infoHash: undefined };
  const id = numberOf(row, 'id');
  const refusal = db.prepare(`
    INSERT INTO refusal VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (source, name) DO UPDATE SET code = excluded.code, message = excluded.message,
      fingerprint = excluded.fingerprint`);
  for (const narInfo of db
    .prepare('SELECT source, name, fingerprint FROM narinfo WHERE nar_file = ?')
    .all(id)) {
    const source = numberOf(narInfo, 'source');
    refusal.run(source, textOf(narInfo, 'name'), code, reason, textOf(narInfo, 'fingerprint'));
  }
  db.prepare('DELETE FROM narinfo WHERE nar_file = ?').run(id);
  db.prepare('DELETE FROM piece_table WHERE id BETWEEN ? AND ?').run(2 * id, 2 * id + 1);
  db.prepare('DELETE FROM nar_file WHERE id = ?').run(id);
  return { already: added.changes === 0, infoHash: infoHashFromDigest(bytesOf(row, 'info_hash')) };
}
