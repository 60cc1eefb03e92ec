/** Caches that do not serve the store directory that the others serve. */

import t from 'tap';
import { StoreDirs } from '../../client/store-dirs.ts';
import { makeLogger, silentLogger } from '../../web/log.ts';
import { fetchNar, get, Lab, until } from './lab.ts';
import { madeNar } from './made-nar.ts';

const [one, two] = [madeNar({ name: 'one', sizeBytes: 3_000 }), madeNar({ name: 'two', sizeBytes: 3_000 })];
const foreign = 'StoreDir: /gnu/store\nWantMassQuery: 1\nPriority: 1\n';
const usual = 'StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 1\n';

function dirs(upstreams: string[], catalogs: string[], facts = new Map<string, string>()) {
  return new StoreDirs({
    upstreams,
    catalogs,
    facts: { fact: (name) => facts.get(name), setFact: (name, value) => void facts.set(name, value) },
    logger: silentLogger,
  });
}

t.test('what most upstreams say is served, whoever says it first', async (t) => {
  const facts = new Map<string, string>();
  const known = dirs(['a', 'b', 'c'], ['x', 'y'], facts);
  t.equal(known.current, undefined);
  known.learn('x', '/gnu/store');
  t.equal(known.current, '/gnu/store', 'catalogs, while no upstream has said anything');
  known.learn('a', '/guix/store');
  t.equal(known.current, '/guix/store');
  known.learn('b', '/nix/store');
  t.equal(known.current, '/nix/store', 'of as many that of nearly every machine');
  t.ok(known.isForeign('a') && known.isForeign('x') && !known.isForeign('b') && !known.isForeign('c'));
  known.learn('c', '/guix/store');
  t.equal(known.current, '/guix/store');
  const after = dirs(['a', 'b', 'c'], [], facts);
  t.equal(after.current, '/guix/store', 'also after a restart');
  t.equal(dirs(['b', 'y'], [], facts).current, '/nix/store', 'of those that are configured');
});

t.test('an upstream that could not say its store directory at the start is asked again', async (t) => {
  const lab = await Lab.open(t);
  const [wrong, right] = [await lab.upstream(), await lab.upstream([one])];
  wrong.put('nix-cache-info', foreign);
  right.put('nix-cache-info', usual);
  let times = 0;
  right.intercept = (request, response) => {
    if (request.url !== '/nix-cache-info' || times++ > 0) return false;
    response.writeHead(500).end();
    return true;
  };
  const client = await lab.client([wrong, right], [], {
    limits: { cacheInfoAgainMs: 50, narInfoAbsentMs: 0 },
  });
  await until(async () => {
    const { body } = await get(client.url, 'nix-cache-info');
    return body.toString().includes('/nix/store\n');
  });
  t.ok((await fetchNar(client, one)).body.equals(one.bytes));
});

t.test('a wrong store directory counts for the upstream alone that says it', async (t) => {
  const lab = await Lab.open(t);
  const [wrong, right] = [await lab.upstream([two]), await lab.upstream([one, two])];
  wrong.put('nix-cache-info', foreign);
  // The wrong one answers before anybody else does.
  let answer = (): void => undefined;
  right.intercept = (request, response) => {
    if (request.url !== '/nix-cache-info') return false;
    answer = () => response.end(usual);
    return true;
  };
  const lines: string[] = [];
  const client = await lab.client([wrong, right], [], {
    logger: makeLogger({ write: (line) => lines.push(line), human: false }),
    limits: { cacheInfoAgainMs: 50, narInfoAbsentMs: 0 },
  });
  const upstreams = () => client.status().upstreams as { url: string; foreignStore?: boolean }[];
  const isLeftOut = (): boolean => upstreams().some(({ foreignStore }) => foreignStore === true);
  await until(() => wrong.requests.length > 0);
  await get(client.url, 'nix-cache-info');
  answer();
  await until(isLeftOut);

  t.match((await get(client.url, 'nix-cache-info')).body.toString(), /^StoreDir: \/nix\/store$/m);
  t.ok((await fetchNar(client, one)).body.equals(one.bytes), 'narinfos of the other one are found');
  t.ok((await fetchNar(client, two)).body.equals(two.bytes));
  t.same(
    wrong.requests.filter(({ url }) => !url.endsWith('nix-cache-info')),
    [],
    'the wrong one is asked for nothing',
  );
  t.ok(client.status().summary.some((line) => line.includes(`${wrong.url} serves ANOTHER STORE DIRECTORY`)));
  const told = lines.filter((line) => line.includes('"store-dir-differs"'));
  t.equal(told.length, 1);
  t.match(told[0], wrong.url);

  wrong.put('nix-cache-info', usual);
  await until(() => !isLeftOut());
});
