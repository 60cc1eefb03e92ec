/** `GET /availability`: the report of a catalog's availability, sent as it is made. One at a time, since it looks at everything. */

import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { z } from 'zod';
import type { Router } from '../web/app.ts';
import { seedsMax } from './availability.ts';
import {
  printReport,
  type ReportSource,
  reportDaysMax,
  reportFormats,
  reportKinds,
} from './availability-report.ts';

/** Seconds after which whoever came while another report was made may try again. */
const retrySeconds = 10;

const query = z.object({
  seeds: z.coerce.number().int().min(1).max(seedsMax).default(3),
  days: z.coerce.number().min(0).max(reportDaysMax).default(30),
  only: z.enum(reportKinds).default('all'),
  format: z.enum(reportFormats).default('text'),
});

const contentTypes = {
  text: 'text/plain; charset=utf-8',
  json: 'application/json',
  csv: 'text/csv; charset=utf-8',
} as const;

export function addAvailability(router: Router, source: () => Promise<ReportSource | undefined>): void {
  let busy = false;
  router.get('/availability', async (request, response) => {
    const parsed = query.safeParse(request.query);
    if (!parsed.success) {
      const [issue] = parsed.error.issues;
      response
        .status(400)
        .type('text/plain')
        .send(`${issue?.path.join('.')}: ${issue?.message}\n`);
      return;
    }
    if (busy) {
      response.status(503).set('Retry-After', `${retrySeconds}`).end();
      return;
    }
    busy = true;
    try {
      const { format, ...rule } = parsed.data;
      const found = await source();
      if (found === undefined) {
        response
          .status(503)
          .set('Retry-After', `${retrySeconds}`)
          .type('text/plain')
          .send('the catalog is empty yet\n');
        return;
      }
      response.set('Content-Type', contentTypes[format]).set('Cache-Control', 'no-store');
      if (request.method === 'HEAD') response.end();
      else await pipeline(Readable.from(printReport(found, rule, format)), response);
    } catch (error) {
      // Whoever went away in the middle wants no answer.
      if (!response.destroyed) throw error;
    } finally {
      busy = false;
    }
  });
}
