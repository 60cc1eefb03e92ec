/** Reads the sources, and says how far it is. */

import { isNarswarmError } from '../nar/errors.ts';
import type { Logger } from '../web/log.ts';
import type { Ingest } from './ingest.ts';

/** Between two lines about a long reading. */
const progressLineMs = 5_000;

/** Resolves when the sources were read, or the ingest was closed; what failed is logged, and tried again next time. */
export async function readSources(ingest: Ingest, logger: Logger): Promise<void> {
  const timer = setInterval(() => logger.info('ingest-progress', { ...ingest.progress() }), progressLineMs);
  try {
    await ingest.run();
    logger.info('ingest-done', { ...ingest.progress() });
  } catch (error) {
    if (!isNarswarmError(error, 'aborted')) logger.error('ingest-failed', { error });
  } finally {
    clearInterval(timer);
  }
}
