/** `narswarm doctor` on a running client, with real Nix where there is one. */

import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { signHead } from '../../catalog/head.ts';
import { clientChecks } from '../../cli/doctor/client-checks.ts';
import { fetchClientSetup } from '../../cli/doctor/client-setup.ts';
import { leavingOf } from '../../cli/doctor/leaving.ts';
import { printPublicKey, type SecretKey } from '../../nar/signature.ts';
import { runCommand } from '../cli/run-command.ts';
import { nixMissing } from '../helpers/nix.ts';
import { Lab } from './lab.ts';
import { cacheKey, catalogKey, strangerKey } from './made-nar.ts';

interface Report {
  problems: number;
  findings: { level: string; about: string; text: string; advice?: string }[];
  leaving: { to: string; what: string }[];
}

/** A nix.conf of its own, and no other on the machine. */
async function doctor(lab: Lab, url: string, conf: string, env: Record<string, string> = {}) {
  const dir = join(lab.dir, 'nix');
  await mkdir(dir, { recursive: true });
  await writeFile(join(dir, 'nix.conf'), `${conf}\n`);
  const own = { NIX_CONF_DIR: dir, HOME: lab.dir, XDG_CONFIG_HOME: lab.dir, NIX_CONFIG: '', ...env };
  const { status, out, errors } = await runCommand(['doctor', url, '--json', '--timeout', '60s'], {
    env: own,
  });
  if (out === '') throw new Error(errors);
  return { status, report: JSON.parse(out) as Report };
}

/** The same without Nix, in this process. */
async function look(url: string): Promise<Omit<Report, 'problems'>> {
  const signal = AbortSignal.timeout(60_000);
  const setup = await fetchClientSetup(url, signal);
  if ('why' in setup) throw new Error(setup.why);
  const findings = await clientChecks(setup, { url, signal, now: Date.now });
  return { findings, leaving: leavingOf(setup, undefined, url) };
}

const wrong = ({ findings }: Pick<Report, 'findings'>) => findings.filter(({ level }) => level !== 'ok');
const keys = `trusted-public-keys = ${printPublicKey(cacheKey.publicKey)}`;

/** A head as a seeder publishes it, of an empty catalog. */
function head(secret: SecretKey, expiresMs: number): string {
  const expires = Math.floor(expiresMs / 1_000);
  const keys = [printPublicKey(secret.publicKey)];
  const nothing = { segments: [], views: [], keys };
  return signHead({ ...nothing, nixStoreDir: '/nix/store', sequence: 1, time: expires - 60, expires }, [
    secret,
  ]);
}

function serving(text: () => string) {
  return (request: IncomingMessage, response: ServerResponse): boolean => {
    if (request.url !== '/catalog/head') return false;
    response.end(text());
    return true;
  };
}

t.test('a good setup is said to be good, by real Nix', { skip: nixMissing() }, async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream();
  const catalog = await lab.catalog();
  catalog.intercept = serving(() => head(catalogKey, Date.now() + 3_600_000));
  const client = await lab.client([upstream], [catalog]);
  const conf = `substituters = ${client.url} https://cache.nixos.org\n${keys}`;
  const { status, report } = await doctor(lab, client.url, conf);
  t.same(wrong(report), []);
  t.equal(status, 0);
  const about = report.findings.map((each) => each.about);
  for (const each of [
    'client',
    'upstream',
    'catalog',
    'disk',
    'sharing',
    'Nix',
    'substituters',
    'trusted-public-keys',
  ])
    t.ok(about.includes(each), each);
  const told = new Map(report.leaving.map(({ to, what }) => [to, what]));
  t.match(told.get(upstream.url), /the hash of each store path/);
  t.match(told.get(catalog.url), /\/resolve/);
  t.match(told.get('the local network'), /no multicast is sent/);
  t.match(told.get('https://cache.nixos.org (by Nix itself)'), /the client has not/);
});

t.test('what is wrong with Nix is found by real Nix', { skip: nixMissing() }, async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream();
  const client = await lab.client([upstream]);
  const { status, report } = await doctor(lab, client.url, 'substituters = https://cache.nixos.org');
  t.equal(status, 1);
  t.match(
    wrong(report).map(({ level, about }) => `${level} ${about}`),
    ['warning catalogs', 'problem substituters', 'problem trusted-public-keys'],
  );
  t.match(report.findings.find(({ about }) => about === 'substituters')?.advice, client.url);
});

t.test('a catalog that is down, expired, of another key or not one is told apart', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream();
  const catalog = await lab.catalog();
  const client = await lab.client([upstream], [catalog]);
  const ofCatalog = async (answer: (() => string) | undefined) => {
    catalog.intercept = answer && serving(answer);
    return (await look(client.url)).findings.find(({ about }) => about === 'catalog');
  };
  t.match(await ofCatalog(undefined), { level: 'warning', text: /has published no head yet/ });
  t.match(await ofCatalog(() => head(strangerKey, Date.now() + 3_600_000)), {
    level: 'problem',
    text: /signed by none of the keys/,
  });
  t.match(await ofCatalog(() => head(catalogKey, Date.now() - 3_600_000)), {
    level: 'problem',
    text: /expired 1 h ago/,
  });
  t.match(await ofCatalog(() => 'nonsense'), { level: 'problem', text: /cannot be read: head-corrupt/ });
  await catalog.close();
  t.match(await ofCatalog(undefined), { level: 'problem', text: /does not answer/ });
});

t.test(
  'an upstream that is down, wants a login or is of another store is told apart, and a wrong clock',
  async (t) => {
    const lab = await Lab.open(t);
    const upstream = await lab.upstream();
    const client = await lab.client([upstream]);
    const found = async () => (await doctor(lab, client.url, '')).report.findings;
    const about = async (what: string) => (await found()).find((each) => each.about === what);
    upstream.intercept = (_request, response) => {
      response.setHeader('Date', new Date(Date.now() - 2 * 3_600_000).toUTCString());
      return false;
    };
    t.match(await about('clock'), { level: 'problem', text: /2 h ahead of/ });
    upstream.intercept = (_request, response) => {
      response.writeHead(401).end();
      return true;
    };
    t.match(await about('upstream'), { level: 'problem', text: /wants a login/, advice: /--netrc/ });
    upstream.intercept = undefined;
    t.match(await about('upstream'), { level: 'ok' });
    await upstream.close();
    t.match(await about('upstream'), { level: 'problem', text: /does not answer: ECONNREFUSED/ });
  },
);

t.test('what is shared, and with whom, is said; and when peers cannot connect', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream();
  const catalog = await lab.catalog();
  const lan = await lab.client([upstream], [catalog], { share: 'lan' });
  const report = await look(lan.url);
  t.match(
    report.findings.filter(({ about }) => about === 'sharing' || about === 'local network'),
    [
      { level: 'ok', text: new RegExp(`served at ${lan.peersAddress}`) },
      { level: 'ok', text: /multicast from 127\.0\.0\.1/ },
    ],
  );
  const told = report.leaving.map(({ to, what }) => `${to}: ${what}`);
  t.ok(told.some((each) => /^trackers: nothing/.test(each)));
  t.ok(told.some((each) => /^everybody in the local network.*infohash/.test(each)));

  const on = await lab.client([upstream], [catalog], { share: 'on', dataDir: `${lab.dir}/on` });
  const shared = (await look(on.url)).leaving.map(({ to, what }) => `${to}: ${what}`);
  t.ok(shared.some((each) => each.startsWith(`the trackers of ${catalog.url}: which signed NAR files`)));

  const setup = (await (await fetch(`${lan.url}/_narswarm/setup`)).json()) as object;
  const other = await pretending(t, { ...setup, peersAddress: '127.0.0.1:1', localFault: 'EACCES' });
  t.match(
    wrong(await look(other)).filter(({ about }) => about === 'sharing' || about === 'local network'),
    [
      { level: 'problem', text: 'nobody can connect to 127.0.0.1:1' },
      { level: 'problem', text: /EACCES/ },
    ],
  );
  const paused = await pretending(t, { ...setup, sharePaused: 'metered' });
  t.match(
    wrong(await look(paused)).find(({ about }) => about === 'sharing'),
    { level: 'warning', text: /metered/ },
  );
  const full = await pretending(t, { ...setup, cacheSizeBytes: 2 ** 60 });
  t.match(
    wrong(await look(full)).find(({ about }) => about === 'disk'),
    { level: 'warning' },
  );
});

t.test('without a client that is the problem, and Nix is looked at all the same', async (t) => {
  const lab = await Lab.open(t);
  const upstream = await lab.upstream();
  const none = await doctor(lab, 'http://127.0.0.1:1', 'substituters = http://127.0.0.1:1');
  t.equal(none.status, 1);
  t.match(none.report.findings[0], { level: 'problem', text: /no client answers/ });
  const { report } = await doctor(lab, upstream.url, '');
  t.match(report.findings[0], { level: 'problem', text: /no narswarm client/ });
  const text = await runCommand(['doctor', 'http://127.0.0.1:1']);
  t.match(text, {
    status: 1,
    out: /PROBLEM {2}client: .*\n {9}→ .*[\s\S]*What leaves this machine:[\s\S]*1? ?problem/,
  });
});

async function pretending(t: Test, setup: object): Promise<string> {
  const server = createServer((_request, response) => response.end(JSON.stringify(setup)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
