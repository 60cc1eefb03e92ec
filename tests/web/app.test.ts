/** Errors become statuses, and tell nothing that is nobody's business. */

import { request } from 'node:http';
import t, { type Test } from 'tap';
import { type ErrorCode, errorCodes, NarswarmError } from '../../nar/errors.ts';
import { errorAnswer, makeApp, requestTargetMaxCharacters } from '../../web/app.ts';
import { jsonBody } from '../../web/json-body.ts';
import type { Logger } from '../../web/log.ts';
import { openHttpServer } from '../../web/server.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';

interface Logged {
  level: string;
  event: string;
  fields: Record<string, unknown> | undefined;
}

async function serve(t: Test): Promise<{ url: string; logged: Logged[] }> {
  provesNothingStaysOpen(t);
  const logged: Logged[] = [];
  const log = (level: string) => (event: string, fields?: Record<string, unknown>) => {
    logged.push({ level, event, fields });
  };
  const logger: Logger = { info: log('info'), warn: log('warn'), error: log('error') };
  const app = makeApp({
    logger,
    routes(router) {
      router.get('/throw/:code', (request) => {
        throw new NarswarmError(request.params.code as ErrorCode, 'secret: /var/lib/narswarm');
      });
      router.get('/bug', async () => {
        throw new TypeError('secret: /var/lib/narswarm');
      });
      router.get('/late', async (_request, response) => {
        response.writeHead(200, { 'content-length': 100 });
        response.write('half');
        throw new Error('midway');
      });
      router.get('/named/:name', (request, response) => void response.end(request.params.name));
      router.post('/json', jsonBody(100), (request, response) => void response.json(request.body));
    },
  });
  const server = await openHttpServer({ host: '127.0.0.1', port: 0, app });
  t.teardown(() => server.close());
  return { url: server.url, logged };
}

function ask(
  url: string,
  method = 'GET',
  body?: string,
): Promise<{ status?: number; headers: object; text: string }> {
  return new Promise((resolve, reject) => {
    const asking = request(url, { method, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part) => {
        text += part;
      });
      response.on('error', reject);
      response.on('end', () => {
        resolve({
          ...(response.statusCode ? { status: response.statusCode } : {}),
          headers: response.headers,
          text,
        });
      });
    });
    asking.on('error', reject);
    asking.end(body);
  });
}

t.test('each code has its status, and its text names no file', async (t) => {
  const { url } = await serve(t);
  const cases: [ErrorCode, number][] = [
    ['store-path-invalid', 404],
    ['hash-invalid', 404],
    ['path-escapes', 404],
    ['not-held', 404],
    ['upstream-failed', 502],
    ['swarm-stalled', 504],
    ['store-failed', 500],
    ['aborted', 503],
  ];
  for (const [code, status] of cases) {
    const answer = await ask(`${url}/throw/${code}`);
    t.match(answer, {
      status,
      text: `${code}: ${errorCodes[code]}\n`,
      headers: { 'content-type': /^text\/plain/ },
    });
  }
});

t.test('every code has an answer without its message', async (t) => {
  for (const code of Object.keys(errorCodes) as ErrorCode[]) {
    const { status, text } = errorAnswer(new NarswarmError(code, 'secret'));
    t.ok(status >= 400 && status < 600 && !text.includes('secret'), `${code} → ${status}`);
  }
});

t.test('what nobody expected is 500, logged once with its stack', async (t) => {
  const { url, logged } = await serve(t);
  t.match(await ask(`${url}/bug?token=secret`), { status: 500, text: 'internal error\n' });
  t.equal(logged.length, 1);
  t.match(logged[0], {
    level: 'error',
    event: 'request-failed',
    fields: { path: '/bug', stack: /TypeError/ },
  });
});

t.test('what the asker got wrong is not logged', async (t) => {
  const { url, logged } = await serve(t);
  t.match(await ask(`${url}/absent`), { status: 404, text: 'not found\n' });
  t.match(await ask(`${url}/named/%zz`), { status: 400 });
  t.match(await ask(`${url}/named/x`, 'PUT'), { status: 405, headers: { allow: 'GET, HEAD' } });
  t.match(await ask(`${url}/json`, 'POST', '{'), { status: 400, text: 'bad request\n' });
  t.match(await ask(`${url}/json`, 'POST', JSON.stringify('x'.repeat(200))), { status: 413 });
  t.match(await ask(`${url}/${'x'.repeat(requestTargetMaxCharacters)}`), { status: 414 });
  t.match(await ask(`${url}/throw/not-held`), { status: 404 });
  t.same(logged, []);
});

t.test('a failure after the head breaks the connection', async (t) => {
  const { url, logged } = await serve(t);
  await t.rejects(ask(`${url}/late`), { code: 'ECONNRESET' });
  t.equal(logged.length, 1);
});

t.test('nothing tells what serves, and routes are exact', async (t) => {
  const { url } = await serve(t);
  const { headers } = await ask(`${url}/named/x`);
  t.notOk('x-powered-by' in headers);
  t.notOk('etag' in headers);
  t.match(await ask(`${url}/NAMED/x`), { status: 404 });
  t.match(await ask(`${url}/named/x/`), { status: 404 });
});
