/** The HTTP surface of a client: the binary cache protocol whole, and the pages under `/_narswarm/`. */

import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { makeApp } from '../web/app.ts';
import type { Logger } from '../web/log.ts';
import type { Metrics } from '../web/metrics.ts';
import { addOperations } from '../web/operations.ts';
import { sendText } from '../web/send.ts';
import type { CacheInfo } from './cache-info.ts';
import { ownPrefix, storeHashOfNarInfoName, urlKeyOf } from './local-url.ts';
import type { NarServer } from './nar.ts';
import type { NarInfoFinder } from './narinfo.ts';
import type { GivenNarInfo } from './state.ts';

export interface ClientHttpOptions {
  cacheInfo: CacheInfo;
  narInfos: NarInfoFinder;
  nars: NarServer;
  /** A narinfo is about to be given out. */
  onGiven(given: GivenNarInfo): void;
  metrics: Metrics;
  status(): object;
  logger: Logger;
}

export function makeClientApp(options: ClientHttpOptions): RequestListener {
  const { logger, metrics, status } = options;
  return makeApp({
    logger,
    routes(router) {
      addOperations(router, {
        prefix: `/${ownPrefix}`,
        title: 'narswarm client',
        intro: 'What came from where since this client was started.',
        status,
        metrics,
      });
      // Not by routes of the paths: a NAR URL may be anything, with dots, percent signs and a query.
      router.get(/.*/, async (request, response, next) => {
        if (!(await answer(request, response))) next();
      });
    },
  });

  /**
   * False for 404. Nix falls through to its next substituter on a 404 and on nothing else, so a failure of ours, or of
   * whoever is behind us, is one too.
   */
  async function answer(request: IncomingMessage, response: ServerResponse): Promise<boolean> {
    try {
      const urlKey = urlKeyOf(request.url ?? '');
      if (urlKey === undefined) return false;
      if (urlKey === 'nix-cache-info') {
        await sendText(request, response, await options.cacheInfo.text(), 'text/x-nix-cache-info');
        return true;
      }
      if (!/^[^/?]+\.narinfo$/.test(urlKey)) return await options.nars.answer(request, response, urlKey);
      return await answerNarInfo(request, response, urlKey);
    } catch (error) {
      logger.warn('request-failed', { method: request.method, path: request.url, error });
      // A body that has begun must not end as if it were whole.
      if (!response.headersSent) return false;
      response.destroy();
      return true;
    }
  }

  async function answerNarInfo(
    request: IncomingMessage,
    response: ServerResponse,
    name: string,
  ): Promise<boolean> {
    const storeHash = storeHashOfNarInfoName(name);
    if (storeHash === undefined) return false;
    const gone = new AbortController();
    const onClose = (): void => gone.abort();
    response.once('close', onClose);
    try {
      const given = await options.narInfos.find(storeHash, gone.signal);
      if (gone.signal.aborted) return true;
      if (given === undefined) return false;
      options.onGiven(given);
      await sendText(request, response, given.narInfo.text, 'text/x-nix-narinfo');
      return true;
    } finally {
      response.off('close', onClose);
    }
  }
}
