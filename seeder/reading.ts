/** Reads the sources, and says how far it is. */

import { isNarswarmError } from '../nar/errors.ts';
import type { Logger } from '../web/log.ts';
import type { Ingest } from './ingest.ts';

/** Between two lines about a long reading. */
const progressLineMs = 5_000;

export interface ReadingOptions {
  /** No events of the progress: it is shown elsewhere. */
  silent?: boolean;
}

/** Resolves when the sources were read, or the ingest was closed; what failed is logged, and tried again next time. */
export async function readSources(
  ingest: Ingest,
  logger: Logger,
  { silent = false }: ReadingOptions = {},
): Promise<void> {
  const tell = (): void => logger.info('ingest-progress', { ...ingest.progress() });
  const timer = silent ? undefined : setInterval(tell, progressLineMs);
  try {
    await ingest.run();
    logger.info('ingest-done', { ...ingest.progress() });
  } catch (error) {
    if (!isNarswarmError(error, 'aborted')) logger.error('ingest-failed', { error });
  } finally {
    clearInterval(timer);
    // It may be a day until the next one.
    await ingest.rest();
  }
}
