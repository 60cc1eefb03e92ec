/**
 * A catalog of made NAR files, of any size, in minutes. The schema is the catalog's own. The rows are those that `Catalog.accept` would write (a test
 * compares the two), but written in bulk: in the order of their keys, and the indexes afterwards, which so are sorted once instead of
 * grown at random places.
 *
 *   made-catalog.ts FILE ROWS [WHOLE-EVERY]
 */
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { DatabaseSync } from 'node:sqlite';
import { Worker } from 'node:worker_threads';
import { openCatalog } from '../../catalog/catalog.ts';
import { packNarFileMaxBytes } from '../../catalog/packs.ts';
import { storeDirKey } from '../../seeder/ingest.ts';
import { sourceUrl, storeDir } from './made-rows.ts';
import type { MadeRow } from './made-worker.ts';

/** Rows that a worker makes between two messages, and that are one transaction. */
const batchRows = 2_000;
const indexCacheKib = 1024 * 1024;

export interface MadeCatalogOptions {
  rows: number;
  /**
   * Only every so many-th NAR file is whole; those between are rows of the same shape and size, with its size, random hashes and no signatures. So that
   * ten million take minutes, two signatures each being most of the work.
   */
  wholeEvery?: number;
  onProgress?: (rows: number) => void;
}

/** `path` must not exist. */
export async function makeCatalog(path: string, options: MadeCatalogOptions): Promise<void> {
  const { rows, wholeEvery = 1, onProgress } = options;
  const catalog = openCatalog(path);
  catalog.setMeta(storeDirKey, storeDir);
  catalog.close();
  const db = new DatabaseSync(path);
  try {
    // Nobody minds when a power cut spoils what is made for one benchmark.
    db.exec(
      'PRAGMA journal_mode = DELETE; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = MEMORY',
    );
    const later = db
      .prepare(
        "SELECT type, name, sql FROM sqlite_schema WHERE type IN ('index', 'trigger') AND sql NOT NULL",
      )
      .all();
    for (const { type, name } of later) db.exec(`DROP ${type} ${name}`);
    await fill(db, rows, wholeEvery, onProgress);
    db.exec(`INSERT INTO unpacked SELECT id, file_size, CAST(unixepoch('subsec') * 1000 AS INTEGER) FROM nar_file
      WHERE file_size <= ${packNarFileMaxBytes} ORDER BY id`);
    db.exec(`PRAGMA cache_size = ${-indexCacheKib}; PRAGMA threads = 2`);
    for (const { sql } of later) db.exec(String(sql));
    db.exec(`
      UPDATE counter SET value = (SELECT count(*) FROM nar_file) WHERE name = 'nars';
      UPDATE counter SET value = (SELECT count(*) FROM narinfo) WHERE name = 'narinfos';
      UPDATE counter SET value = (SELECT sum(file_size) FROM nar_file) WHERE name = 'bytes';
      UPDATE counter SET value = (SELECT count(*) FROM unpacked) WHERE name = 'unpacked/nars';
      UPDATE counter SET value = (SELECT coalesce(sum(size), 0) FROM unpacked) WHERE name = 'unpacked/bytes'`);
  } finally {
    db.close();
  }
}

async function fill(
  db: DatabaseSync,
  rows: number,
  wholeEvery: number,
  onProgress: ((rows: number) => void) | undefined,
): Promise<void> {
  const put = prepare(db, wholeEvery);
  const wholeRows = Math.ceil(rows / wholeEvery);
  const workers = Array.from(
    { length: Math.min(availableParallelism(), Math.ceil(wholeRows / batchRows)) },
    () => new Worker(new URL('made-worker.ts', import.meta.url)),
  );
  try {
    const batches = Array.from(
      { length: Math.ceil(wholeRows / batchRows) },
      (_none, index) => index * batchRows,
    );
    const ask = (batch: number): Promise<MadeRow[]> => {
      const worker = workers[(batch / batchRows) % workers.length];
      if (worker === undefined) throw new Error('no such worker');
      const numbers = Array.from(
        { length: Math.min(batchRows, wholeRows - batch) },
        (_none, index) => (batch + index) * wholeEvery,
      );
      worker.postMessage(numbers);
      return once(worker, 'message').then(([made]) => made);
    };
    // Each worker makes its next batch while the last one is written.
    const coming = batches.splice(0, workers.length).map(ask);
    for (let first = 0; first < wholeRows; first += batchRows) {
      const made = await coming.shift();
      const next = batches.shift();
      if (next !== undefined) coming.push(ask(next));
      db.exec('BEGIN');
      for (const [index, row] of made?.entries() ?? []) put(row, (first + index) * wholeEvery, rows);
      db.exec('COMMIT');
      onProgress?.(Math.min(rows, (first + batchRows) * wholeEvery));
    }
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}

/** Writes a whole row and those after it that are not. */
function prepare(db: DatabaseSync, wholeEvery: number): (row: MadeRow, number: number, rows: number) => void {
  const { id: source } = db.prepare('INSERT INTO source (url) VALUES (?) RETURNING id').get(sourceUrl) ?? {};
  const narFile = db.prepare(`
    INSERT INTO nar_file (id, file_hash, file_size, compression, nar_hash, nar_size, info_hash, nar_info_hash, sigs)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`);
  const pieces = db.prepare('INSERT INTO piece_table VALUES (?, ?)');
  const narInfo = db.prepare(`
    INSERT INTO narinfo
      (nar_file, name, store_hash, url, fingerprint, path, size_bytes, mtime_ns, text, source)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ${Number(source)})`);
  const ids = 'WITH RECURSIVE n (id) AS (VALUES (:first) UNION ALL SELECT id + 1 FROM n WHERE id < :last)';
  const hex = (bytes: number): string => `lower(hex(randomblob(${bytes})))`;
  const fillers = [
    `${ids} INSERT INTO nar_file
      SELECT id, randomblob(32), :size, 'zstd', randomblob(32), :size, randomblob(20), randomblob(20),
        'made-catalog-1:' || ${hex(44)} FROM n`,
    `${ids} INSERT INTO piece_table SELECT 2 * id, randomblob(:pieces) FROM n UNION ALL SELECT 2 * id + 1, randomblob(:pieces) FROM n ORDER BY 1`,
    `${ids} INSERT INTO narinfo (nar_file, name, store_hash, url, fingerprint, path, size_bytes, mtime_ns, text, source)
      SELECT id, ${hex(16)} || '.narinfo', randomblob(20), url, '1 ' || ${hex(40)} || url, url, :size, 0,
        'StorePath: ' || url || ${hex(240)}, ${Number(source)}
      FROM (SELECT id, 'nar/' || ${hex(26)} || '.nar.zst' AS url FROM n LIMIT -1 OFFSET 0)`,
  ].map((sql) => db.prepare(sql));
  for (const filler of fillers) filler.setAllowUnknownNamedParameters(true);
  return (row, number, rows) => {
    const id = number + 1;
    narFile.run(id, ...row.narFile);
    pieces.run(2 * id, row.filePieces);
    pieces.run(2 * id + 1, row.narPieces);
    narInfo.run(id, ...row.narInfo);
    const values = {
      first: id + 1,
      last: Math.min(rows, number + wholeEvery),
      size: row.narFile[1] ?? 0,
      pieces: row.filePieces.length,
    };
    if (values.last >= values.first) for (const filler of fillers) filler.run(values);
  };
}

if (import.meta.main) {
  const [path = '', rows, wholeEvery] = process.argv.slice(2);
  const started = performance.now();
  await makeCatalog(path, {
    rows: Number(rows),
    wholeEvery: Number(wholeEvery ?? 1),
    onProgress: (made) =>
      process.stderr.write(`\r${made} rows, ${((performance.now() - started) / 1000).toFixed(0)} s`),
  });
  process.stderr.write(`, with indexes ${((performance.now() - started) / 1000).toFixed(0)} s\n`);
}
