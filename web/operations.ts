/**
 * What every program shows of itself: health, metrics, status as JSON, and the status as a page.
 *
 * Under whatever name it was asked: a seeder and a mirror publish what they have, and a web page whose name is made to point to one reads what its
 * maker could have asked for himself. What a client tells is its user's own: client/http/page-guard.ts.
 */

import type { Router } from 'express';
import { type Metrics, metricsContentType } from './metrics.ts';
import { pageSecurityPolicy, statusPage } from './page.ts';
import { sendFile, sourceOf } from './send.ts';

export interface OperationsOptions {
  /** `/` for a seeder; `/_narswarm/` for a client, whose other paths are the binary cache's. Ends with a slash. */
  prefix: string;
  title: string;
  intro?: string;
  /** Plain data, with `role` at least. `summary`: the same in words, a line each, which comes first where people read it. */
  status(): object | Promise<object>;
  metrics?: Metrics;
}

export function addOperations(router: Router, options: OperationsOptions): void {
  const { prefix, title, intro, status, metrics } = options;
  const answer = (path: string, contentType: string, text: () => string | Promise<string>): void => {
    router.get(`${prefix}${path}`, async (request, response) => {
      const bytes = Buffer.from(await text());
      if (contentType.startsWith('text/html'))
        response.setHeader('Content-Security-Policy', pageSecurityPolicy);
      await sendFile(request, response, sourceOf(bytes, { contentType, cacheControl: 'no-store' }));
    });
  };
  const links = [{ text: 'status as JSON', href: `${prefix}status` }];
  if (metrics !== undefined) links.push({ text: 'metrics', href: `${prefix}metrics` });

  answer('healthz', 'text/plain; charset=utf-8', () => 'ok\n');
  answer('status', 'application/json', async () => `${JSON.stringify(await status(), plainNumbers)}\n`);
  answer('', 'text/html; charset=utf-8', async () => {
    const { summary, ...figures } = (await status()) as { summary?: readonly string[] };
    return statusPage({
      title,
      status: figures,
      links,
      ...(intro && { intro }),
      ...(summary && { summary }),
    });
  });
  if (metrics !== undefined) answer('metrics', metricsContentType, () => metrics.text());
}

function plainNumbers(_name: string, value: unknown): unknown {
  return typeof value === 'bigint' ? Number(value) : value;
}
