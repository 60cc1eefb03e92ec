/** The view of every revocation, for clients, which do not follow the log: made again after each one. */

import { revocationsView } from '../catalog/head.ts';
import type { CatalogLog } from '../catalog/log.ts';
import type { LogFile } from '../catalog/log-reader.ts';
import { frameRecord } from '../catalog/record.ts';
import { writeSegment } from '../catalog/segment.ts';
import type { ViewOptions } from './publish-views.ts';

/** Read at once. */
const pageRevocations = 1_000;

/** `hashed`: makes the torrent of a file. */
export async function publishRevocations(
  { log, files, nowMs, durably }: Pick<ViewOptions, 'log' | 'files' | 'nowMs' | 'durably'>,
  hashed: (file: { sha256: LogFile['sha256']; sizeBytes: number }) => Promise<LogFile>,
): Promise<void> {
  const madeOf = `${log.lastRevocation}`;
  const before = log.views().find(({ name }) => name === revocationsView);
  if (log.lastRevocation === 0 || before?.madeOf === madeOf) return;
  const file = await hashed(await files.put(writeSegment(recordsOf(log))));
  durably(() => log.putView({ name: revocationsView, paths: 0, madeOf }, file, nowMs));
}

function* recordsOf(log: CatalogLog): Generator<Buffer> {
  let lastId = 0;
  for (;;) {
    const page = log.revocations(lastId, pageRevocations);
    for (const { id, fileHash, time, reason } of page) {
      lastId = id;
      yield frameRecord({ kind: 'revocation', fileHash, time, reason });
    }
    if (page.length < pageRevocations) return;
  }
}
