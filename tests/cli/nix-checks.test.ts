import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { ClientSetup } from '../../cli/doctor/client-setup.ts';
import type { Finding, Level } from '../../cli/doctor/finding.ts';
import { nixChecks } from '../../cli/doctor/nix-checks.ts';
import { type NixSetup, readNixSetup } from '../../cli/doctor/nix-setup.ts';

const url = 'http://127.0.0.1:8420';
const key = 'cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=';
const catalogKey = 'seeder.example-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=';
const client: ClientSetup = {
  storeDir: '/nix/store',
  priority: 30,
  dataDir: '/data',
  cacheSizeBytes: 1,
  heldBytes: 0,
  upstreams: ['https://cache.nixos.org'],
  netrc: false,
  catalogs: [],
  catalogKeys: [catalogKey],
  trustedKeys: [key],
  views: [],
  share: 'off',
  localNetworks: [],
};

function nix(settings: Record<string, string> = {}, more: Partial<NixSetup> = {}): NixSetup {
  const good = { substituters: `${url} https://cache.nixos.org`, 'trusted-public-keys': key };
  return {
    version: '2.32.1',
    source: 'nix',
    settings: new Map(Object.entries({ ...good, ...settings })),
    machineFile: { path: '/etc/nix/nix.conf', text: `substituters = ${url}` },
    storeDir: '/nix/store',
    ...more,
  };
}

interface Given {
  settings?: Record<string, string>;
  more?: Partial<NixSetup>;
  setup?: ClientSetup | undefined;
  env?: Record<string, string>;
  isRoot?: boolean;
}

function found({ settings, more, setup = client, env = {}, isRoot = false }: Given): Finding[] {
  return nixChecks(nix(settings, more), url, setup, env, isRoot);
}

t.test('a good setup has neither problems nor warnings', async (t) => {
  t.same(
    found({}).filter(({ level }) => level !== 'ok'),
    [],
  );
  t.same(
    found({
      settings: { substituters: 'https://cache.nixos.org http://localhost:8420/?priority=20' },
    }).filter(({ level }) => level !== 'ok'),
    [],
    'the order in the list does not matter, the priority does',
  );
});

const cases: readonly (readonly [what: string, given: Given, level: Level, text: RegExp])[] = [
  [
    'the client is not named',
    { settings: { substituters: 'https://cache.nixos.org' } },
    'problem',
    /not among them/,
  ],
  [
    'it is only trusted',
    { settings: { substituters: 'https://cache.nixos.org', 'trusted-substituters': `${url}/` } },
    'warning',
    /only among trusted-substituters/,
  ],
  [
    'another is asked first',
    { settings: { substituters: `${url}?priority=50 https://cache.nixos.org` } },
    'warning',
    /asked before/,
  ],
  ['it is the only one', { settings: { substituters: url } }, 'warning', /the only one/],
  ['substitution is off', { settings: { substitute: 'false' } }, 'problem', /nothing from substituters/],
  [
    'only the user says so',
    { more: { machineFile: { path: '/etc/nix/nix.conf', text: 'cores = 2' } } },
    'warning',
    /daemon ignores that/,
  ],
  [
    'a key is missing',
    { settings: { 'trusted-public-keys': 'other-1:abc=' } },
    'problem',
    /does not trust cache\.nixos\.org-1/,
  ],
  ['signatures are off', { settings: { 'require-sigs': 'false' } }, 'warning', /nobody has signed/],
  [
    'a catalog is taken for a cache',
    { settings: { 'trusted-public-keys': `${key} ${catalogKey}` } },
    'warning',
    /signs torrents and no store paths/,
  ],
  ['the store is another', { more: { storeDir: '/home/me/store' } }, 'problem', /it ignores the client/],
  [
    'a login is not known',
    { settings: { 'netrc-file': '/n' }, more: { netrcText: 'machine cache.nixos.org login a password b' } },
    'problem',
    /--netrc|does not know it/,
  ],
  ['there is a proxy', { env: { https_proxy: 'http://proxy:1' } }, 'warning', /the client does not/],
  [
    'a proxy is asked for the client',
    { env: { http_proxy: 'http://proxy:1' } },
    'problem',
    /ask a proxy for the client/,
  ],
  ['there is no Nix', { more: { version: undefined as never } }, 'warning', /does not run here/],
];

for (const [what, given, level, text] of cases) {
  t.test(`it is said when ${what}`, async (t) => {
    const wrong = found(given).filter((each) => each.level !== 'ok');
    t.ok(
      wrong.some((each) => each.level === level && text.test(each.text)),
      JSON.stringify(wrong),
    );
    t.ok(
      wrong.every(({ advice }) => advice !== undefined && advice !== ''),
      'with what to do',
    );
  });
}

t.test('what is no trouble is not said to be one', async (t) => {
  const fine = (given: Given) => found(given).filter(({ level }) => level !== 'ok');
  t.same(fine({ isRoot: true, more: { machineFile: { path: '/x', text: 'cores = 2' } } }), []);
  t.same(fine({ more: { machineFile: { path: '/x', text: undefined } } }), []);
  const netrc = {
    settings: { 'netrc-file': '/n' },
    more: { netrcText: 'machine cache.nixos.org login a password b' },
  };
  t.same(fine({ ...netrc, setup: { ...client, netrc: true } }), []);
  t.same(fine({ ...netrc, setup: { ...client, upstreams: ['https://other.example'] } }), []);
  const proxied = fine({ env: { http_proxy: 'http://proxy:1', no_proxy: 'localhost, 127.0.0.1' } });
  t.notOk(proxied.some(({ level }) => level === 'problem'));
  t.same(
    nixChecks(undefined, url, client, {}, false).map(({ level }) => level),
    ['warning'],
  );
  t.match(found({ more: { version: '2.8.0' } })[0], { level: 'ok', text: /before 2\.32/ });
});

t.test('without a Nix its files are read, with what they include and add', async (t) => {
  const dir = t.testdir({
    'nix.conf':
      '# ours\nsubstituters = http://a\n!include more.conf\n!include missing.conf\ninclude nix.conf\n',
    'more.conf': 'extra-substituters = http://b\nfallback = true # always\n',
  });
  const env = { NIX_CONF_DIR: dir, PATH: join(dir, 'none'), HOME: join(dir, 'home') };
  const setup = await readNixSetup(env);
  t.equal(setup?.source, 'files');
  t.equal(setup?.settings.get('substituters'), 'http://a');
  t.equal(setup?.settings.get('fallback'), 'true');
  mkdirSync(join(dir, 'home', '.config', 'nix'), { recursive: true });
  writeFileSync(join(dir, 'home', '.config', 'nix', 'nix.conf'), 'extra-substituters = http://c\n');
  writeFileSync(join(dir, 'nix.conf'), 'substituters = http://a\ninclude more.conf\n');
  t.equal((await readNixSetup(env))?.settings.get('substituters'), 'http://a http://b http://c');
  t.equal(await readNixSetup({ ...env, NIX_CONF_DIR: join(dir, 'none'), HOME: dir }), undefined);
});
