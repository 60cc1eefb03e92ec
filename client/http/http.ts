/** The HTTP surface of a client: the binary cache protocol whole, and the pages under `/_narswarm/`. */

import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { makeApp, requestTargetMaxCharacters, sendNotFound } from '../../web/app.ts';
import type { Metrics } from '../../web/metrics.ts';
import { addOperations } from '../../web/operations.ts';
import { sendText } from '../../web/send.ts';
import { ownPrefix, storeHashOfNarInfoName, urlKeyOf } from '../local-url.ts';
import type { CacheInfo } from '../narinfo/cache-info.ts';
import { addSetupRoute, type ClientSetup } from '../report/setup.ts';
import { addWhyRoute, type Why } from '../report/why.ts';
import type { NarServer } from './nar.ts';
import { answerNarInfo, askedNarInfo, type NarInfoRouteOptions } from './narinfo-route.ts';
import { guardPages, isOfStrangePage, knownNames } from './page-guard.ts';

export interface ClientHttpOptions extends NarInfoRouteOptions {
  cacheInfo: CacheInfo;
  nars: NarServer;
  metrics: Metrics;
  why: Why;
  /** Host names, besides localhost, under which its own pages are given. */
  hostNames: readonly string[];
  setup(): ClientSetup;
  status(): object;
}

export function makeClientApp(options: ClientHttpOptions): RequestListener {
  const { logger, metrics, status } = options;
  const known = knownNames(options.hostNames);
  const app = makeApp({
    logger,
    routes(router) {
      router.use(guardPages(known));
      addOperations(router, {
        prefix: `/${ownPrefix}`,
        title: 'narswarm client',
        intro: 'What came from where since this client was started.',
        status,
        metrics,
      });
      addWhyRoute(router, options.why);
      addSetupRoute(router, options.setup);
      // Not by routes of the paths: a NAR URL may be anything, with dots, percent signs and a query.
      router.get(/.*/, async (request, response, next) => {
        if (!(await answer(request, response))) next();
      });
    },
  });
  return (request, response) => {
    const storeHash = askedNarInfo(request);
    if (isOfStrangePage(request, known)) app(request, response);
    else if (storeHash !== undefined) void answerNarInfo(request, response, storeHash, options);
    else if (isPlainNar(request)) void answerNar(request, response);
    else app(request, response);
  };

  /** Before express as well, which takes longer than a small NAR file does. */
  async function answerNar(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (!(await answer(request, response)) && !response.destroyed) sendNotFound(response);
  }

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
      const storeHash = storeHashOfNarInfoName(urlKey);
      if (storeHash === undefined) return false;
      await answerNarInfo(request, response, storeHash, options);
      return true;
    } catch (error) {
      logger.warn('request-failed', { method: request.method, path: request.url, error });
      // A body that has begun must not end as if it were whole.
      if (!response.headersSent) return false;
      response.destroy();
      return true;
    }
  }
}

/** As Nix asks for nearly all NAR files. */
function isPlainNar({ method, url = '' }: IncomingMessage): boolean {
  return (
    (method === 'GET' || method === 'HEAD') &&
    url.startsWith('/nar/') &&
    url.length <= requestTargetMaxCharacters
  );
}
