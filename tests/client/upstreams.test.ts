/** Several upstreams: their order, those that are silent, their logins, and connections to one host. */

import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { parseUpstream } from '../../client/asking/upstreams.ts';
import type { Logger } from '../../web/log.ts';
import { fetchNar, get, Lab, until } from './lab.ts';
import { madeNar } from './made-nar.ts';

const nar = madeNar({ name: 'one', sizeBytes: 5_000 });
const path = `${nar.storeHash}.narinfo`;

/** Everything that is logged, as text. */
function noting(): { logger: Logger; lines: string[] } {
  const lines: string[] = [];
  const note = (event: string, fields?: Record<string, unknown>): void => {
    lines.push(
      `${event} ${JSON.stringify(fields, (_name, value) => (value instanceof Error ? `${value.stack} ${value.cause}` : value))}`,
    );
  };
  return { logger: { info: note, warn: note, error: note }, lines };
}

t.test('the URL of an upstream, with and without a priority', async (t) => {
  t.same(parseUpstream('https://cache.example/'), { url: 'https://cache.example' });
  t.same(parseUpstream('http://c.example/a/?priority=-5'), { url: 'http://c.example/a', priority: -5 });
  for (const bad of [
    'x',
    'ftp://c',
    'http://c?priority=',
    'http://c?priority=1&x=2',
    'http://c?x',
    'http://c#x',
  ]) {
    t.throws(() => parseUpstream(bad), { code: 'config-invalid' }, bad);
  }
  t.throws(() => parseUpstream('http://me:s3cret@c.example'), { message: /^(?!.*s3cret).*--netrc/ });
});

t.test(
  'of several upstreams the one with the lowest priority is asked first, also after a restart',
  async (t) => {
    const lab = await Lab.open(t);
    const [first, second] = [await lab.upstream([nar]), await lab.upstream([nar])];
    second.put('nix-cache-info', 'StoreDir: /nix/store\nPriority: 10\n');
    const limits = { narInfoFreshMs: 0 };
    const order = (status: unknown): string[] =>
      (status as { upstreams: { url: string }[] }).upstreams.map(({ url }) => url);
    const before = await lab.client([first, second], [], { limits });
    await until(() => order(before.status())[0] === second.url);
    t.equal((await get(before.url, path)).status, 200);
    t.equal(first.requestsFor(path), 0);
    await before.close();
    for (const upstream of [first, second]) upstream.files.delete('/nix-cache-info');
    const after = await lab.client([first, second], [], { limits });
    t.same(order(after.status()), [second.url, first.url], 'remembered');
    await after.close();
    const told = await lab.client([`${first.url}?priority=5`, second], [], { limits });
    t.same(order(told.status()), [first.url, second.url], 'what the user says goes');
    t.equal((await get(told.url, path)).status, 200);
    t.equal(first.requestsFor(path), 1);
  },
);

t.test(
  'a silent upstream is not waited for each time, is shown, and asked again when it is back',
  async (t) => {
    const lab = await Lab.open(t);
    const nars = Array.from({ length: 12 }, (_none, n) => madeNar({ name: `n${n}`, sizeBytes: 10 }));
    const [silent, good] = [await lab.upstream(nars), await lab.upstream(nars)];
    silent.intercept = () => true;
    const { logger, lines } = noting();
    const limits = { narInfoBudgetMs: 400, narInfoHedgeMs: 100, cacheInfoBudgetMs: 50 };
    const client = await lab.client([`${silent.url}?priority=1`, good], [], { limits, logger });
    const state = () =>
      (client.status() as unknown as { upstreams: { url: string; state: string }[] }).upstreams.find(
        ({ url }) => url === silent.url,
      )?.state;
    const ask = async (n: number) =>
      t.equal((await get(client.url, `${nars[n]?.storeHash}.narinfo`)).status, 200);
    for (let n = 0; n < 3; n++) {
      await ask(n);
      // The answer that came too late is waited for by nobody, but noted.
      await until(
        () =>
          lines.filter((line) => line.startsWith('upstream-resting')).length > 0 ||
          silent.requests.length <= n + 2,
      );
    }
    await until(async () => {
      await ask(3);
      return state() === 'resting';
    });
    const asked = silent.requests.length;
    for (let n = 4; n < 8; n++) await ask(n);
    t.equal(silent.requests.length, asked, 'nobody waits for it');
    t.equal(lines.filter((line) => line.startsWith('upstream-resting')).length, 1);
    silent.intercept = undefined;
    await until(() => state() === 'asked');
    t.equal(silent.requests.at(-1)?.url, '/nix-cache-info', 'tried in the background');
    await ask(9);
    t.equal(silent.requestsFor(`${nars[9]?.storeHash}.narinfo`), 1);
    t.equal(lines.filter((line) => line.startsWith('upstream-back')).length, 1);
  },
);

t.test(
  'what nobody else has is asked of an upstream that rests, when it answered not long ago',
  async (t) => {
    const lab = await Lab.open(t);
    const nars = Array.from({ length: 60 }, (_none, n) => madeNar({ name: `n${n}`, sizeBytes: 10 }));
    const [slow, good] = [await lab.upstream(nars), await lab.upstream(nars.slice(0, -1))];
    const limits = { narInfoBudgetMs: 1_500, narInfoHedgeMs: 100, cacheInfoBudgetMs: 50 };
    const client = await lab.client([`${slow.url}?priority=1`, good], [], { limits });
    const [first, ...others] = nars.map(({ storeHash }) => `${storeHash}.narinfo`);
    const last = others.pop() ?? '';
    t.equal((await get(client.url, first ?? '')).status, 200);
    slow.intercept = () => true;
    const rests = (): boolean =>
      (client.status() as unknown as { upstreams: { url: string; state: string }[] }).upstreams.some(
        ({ url, state }) => url === slow.url && state === 'resting',
      );
    await until(async () => {
      t.equal((await get(client.url, others.pop() ?? '')).status, 200);
      return rests();
    });
    slow.intercept = undefined;
    t.equal((await get(client.url, last)).status, 200);
    t.equal(slow.requestsFor(last), 1);
  },
);

t.test(
  'a login goes to its host over the configured origin, along with no redirect, and into no log',
  async (t) => {
    const lab = await Lab.open(t);
    const [own, other] = [await lab.upstream([nar]), await lab.upstream([nar])];
    const moved = madeNar({ name: 'moved', sizeBytes: 3_000 });
    own.add(moved);
    const logins = (of: typeof own): (string | undefined)[] => of.authorizations;
    own.intercept = (request, response) => {
      if (request.url !== `/${moved.narInfo.url}`) return false;
      response.writeHead(302, { location: `${other.url}/stolen` }).end();
      return true;
    };
    other.put('stolen', moved.bytes);
    const netrc = join(lab.dir, 'netrc');
    await writeFile(netrc, 'machine 127.0.0.1 login me password "s3cret word"\n', { mode: 0o600 });
    const { logger, lines } = noting();
    const client = await lab.client([own.url], [other.url], { netrc, logger });
    t.same((await fetchNar(client, nar)).body, nar.bytes);
    t.ok(logins(own).length > 0);
    const expected = `Basic ${Buffer.from('me:s3cret word').toString('base64')}`;
    t.ok(
      logins(own).every((value) => value === expected),
      'every request',
    );
    await fetchNar(client, moved);
    t.ok(other.requestsFor('stolen') > 0, 'it was redirected');
    t.ok(
      logins(other).every((value) => value === undefined),
      'none to another port of the same host',
    );
    await own.close();
    await get(client.url, `${madeNar({ name: 'nowhere', sizeBytes: 5 }).storeHash}.narinfo`);
    t.ok(lines.length > 0);
    t.notMatch(lines.join('\n'), /s3cret/);
    t.notMatch(lines.join('\n'), new RegExp(expected.slice(6)));
  },
);

t.test(
  'a netrc file that others can read is warned of, one that is wrong is refused with its line',
  async (t) => {
    const lab = await Lab.open(t);
    const netrc = join(lab.dir, 'netrc');
    await writeFile(netrc, 'machine a login b password c\n');
    await chmod(netrc, 0o640);
    const upstream = await lab.upstream();
    for (const [mode, warnings] of [
      [0o640, 0],
      [0o644, 1],
    ] as const) {
      await chmod(netrc, mode);
      const { logger, lines } = noting();
      await (await lab.client([upstream], [], { netrc, logger })).close();
      t.equal(lines.filter((line) => line.startsWith('netrc-readable-by-others')).length, warnings);
    }
    await writeFile(netrc, 'machine a\nlogin b\nsecret\n');
    await t.rejects(lab.client([upstream], [], { netrc }), {
      code: 'config-invalid',
      message: /netrc, line 3: /,
    });
    await t.rejects(lab.client([upstream], [], { netrc: join(lab.dir, 'none') }), { code: 'config-invalid' });
  },
);
