/** `POST /coverage`: a mirror tells what it holds. */

import type { Router } from '../web/app.ts';
import { jsonBody } from '../web/json-body.ts';
import { coverageMaxBodyBytes, coveragePath, printCoverageAnswer } from './coverage.ts';
import type { CoverageBook } from './coverage-book.ts';

export function addCoverage(router: Router, book: Pick<CoverageBook, 'take'>): void {
  router.post(coveragePath, jsonBody(coverageMaxBodyBytes), async (request, response) => {
    const taken = await book.take(request.body, request.socket.remoteAddress ?? '');
    response.setHeader('Cache-Control', 'no-store');
    if ('status' in taken) {
      if (taken.retrySeconds !== undefined) response.setHeader('Retry-After', taken.retrySeconds);
      response.status(taken.status).type('text/plain').send(`${taken.message}\n`);
      return;
    }
    response.type('application/json').send(await printCoverageAnswer(taken));
  });
}
