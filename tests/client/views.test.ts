/** Views that are held: answered without any network, brought up to date, and no longer believed once their head has expired. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { CatalogTransport } from '../../catalog/follow.ts';
import type { CatalogRecord } from '../../catalog/record.ts';
import { signTorrentInfo } from '../../catalog/torrentinfo.ts';
import { Views, type ViewsOptions } from '../../client/narinfo/views.ts';
import { ClientState } from '../../client/state/state.ts';
import { NarswarmError } from '../../nar/errors.ts';
import { secretKeyFromSeed } from '../../nar/signature.ts';
import { storeHashOf } from '../../nar/store-path.ts';
import { parsePeer } from '../../swarm/address/peer-address.ts';
import { TorrentFetch } from '../../swarm/fetch/fetcher.ts';
import { silentLogger } from '../../web/log.ts';
import { headTime, logKey, MadeLog, MadeTransport, narFiles, nixStoreDir } from '../catalog/made-log.ts';
import { row } from '../catalog/made-rows.ts';
import { fetchNar, get, Lab, statusOf, until } from './lab.ts';
import { catalogKey, type MadeNar, madeNar, torrentInfoText } from './made-nar.ts';
import type { TestCatalog } from './test-catalog.ts';

const minute = 60_000;
const storeHash = (n: number) => storeHashOf(row(n).narInfo.storePath);
const unreachable: CatalogTransport = {
  fetchHead: () => Promise.reject(new NarswarmError('upstream-failed', 'nobody there')),
  fetchFile: () => {
    throw new NarswarmError('upstream-failed', 'nobody there');
  },
};

async function opened(t: Test, dir: string, options: Partial<ViewsOptions> = {}): Promise<Views> {
  const views = await Views.open({
    dir: join(dir, 'views'),
    names: ['nixos-26.05'],
    keys: [logKey.publicKey],
    transports: [],
    nixStoreDir: () => nixStoreDir,
    onRevoked: () => undefined,
    clock: () => headTime * 1_000 + minute,
    logger: silentLogger,
    ...options,
  });
  t.teardown(() => views.close());
  await views.looked;
  return views;
}

async function made(): Promise<{ log: MadeLog; transport: MadeTransport }> {
  const log = new MadeLog();
  await log.add(narFiles(1, 10));
  await log.addView('nixos-26.05', narFiles(3, 4));
  return { log, transport: new MadeTransport(log, log.head()) };
}

t.test('a view answers its narinfos verbatim and no others, and no segment is fetched for it', async (t) => {
  const { log, transport } = await made();
  const views = await opened(t, t.testdir(), { transports: [transport] });
  t.equal(views.narInfo(storeHash(5))?.text, row(5).narInfo.text);
  t.equal(views.narInfo(storeHash(5))?.fileHash, row(5).entry.fileHash);
  t.equal(views.narInfo(storeHash(8)), undefined, 'in the catalog, but not in the view');
  t.strictSame(transport.asked, ['head', log.views[0]?.sha256]);
  t.match(views.status(), [{ name: 'nixos-26.05', catalog: logKey.name, paths: 4 }]);
});

t.test('after a restart without any network it still answers, until the head expires', async (t) => {
  const dir = t.testdir();
  const { transport } = await made();
  await (await opened(t, dir, { transports: [transport] })).close();
  let nowMs = headTime * 1_000 + minute;
  const views = await opened(t, dir, { transports: [unreachable], clock: () => nowMs });
  t.equal(views.narInfo(storeHash(5))?.text, row(5).narInfo.text);
  t.match(views.status(), [{ paths: 4, error: /upstream-failed/ }]);
  nowMs += 8 * 24 * 3600 * 1_000;
  t.equal(views.narInfo(storeHash(5)), undefined);
});

t.test(
  'a view that the disk has spoilt does not keep the client from starting, and is read anew',
  async (t) => {
    const dir = t.testdir();
    const { transport } = await made();
    await (await opened(t, dir, { transports: [transport] })).close();
    const names = await readdir(join(dir, 'views'));
    for (const damage of [
      () => Buffer.alloc(50_000, 7),
      (bytes: Buffer) => bytes.subarray(0, bytes.length / 2),
    ]) {
      for (const name of names.filter((each) => each.endsWith('.sqlite'))) {
        const path = join(dir, 'views', name);
        await writeFile(path, damage(await readFile(path)));
      }
      const views = await opened(t, dir, { transports: [transport] });
      t.equal(views.narInfo(storeHash(5))?.text, row(5).narInfo.text);
      await views.close();
    }
  },
);

t.test('a newer head brings the view up to date; a forged one changes nothing', async (t) => {
  const dir = t.testdir();
  const { log, transport } = await made();
  await (await opened(t, dir, { transports: [transport] })).close();
  log.views = [];
  await log.addView('nixos-26.05', narFiles(5, 2));
  const stranger = secretKeyFromSeed(logKey.name, Buffer.alloc(32, 9));
  log.signers = [stranger];
  transport.head = log.head();
  const deceived = await opened(t, dir, { transports: [transport] });
  t.match(deceived.status(), [{ paths: 4, error: /head-untrusted/ }]);
  t.ok(deceived.narInfo(storeHash(3)));
  await deceived.close();
  log.signers = [logKey];
  transport.head = log.head();
  const views = await opened(t, dir, { transports: [unreachable, transport] });
  t.match(views.status(), [{ paths: 2 }]);
  t.equal(views.narInfo(storeHash(3)), undefined, 'no longer in it');
  t.ok(views.narInfo(storeHash(6)));
});

t.test('a view whose bytes are not those of the head is not taken, and the one before stays', async (t) => {
  const dir = t.testdir();
  const { log, transport } = await made();
  await (await opened(t, dir, { transports: [transport] })).close();
  log.views = [];
  await log.addView('nixos-26.05', narFiles(5, 2));
  transport.head = log.head();
  transport.spoil = (bytes) => bytes.subarray(0, -1);
  const views = await opened(t, dir, { transports: [transport] });
  t.ok(views.narInfo(storeHash(3)));
  t.match(views.status(), [{ error: /segment-truncated/ }]);
});

t.test(
  'a view that no catalog has is said to be missing; a name that none can have is refused',
  async (t) => {
    const { transport } = await made();
    const views = await opened(t, t.testdir(), { transports: [transport], names: ['nixos-99.99'] });
    t.match(views.status(), [{ paths: 0, error: /no view nixos-99.99/ }]);
    await t.rejects(opened(t, t.testdir(), { names: ['../x'] }), { code: 'config-invalid' });
  },
);

/** A catalog that serves a log with one view, nixos-26.05, of these; and the paths that it is asked for. */
async function catalogWithView(
  lab: Lab,
  nars: MadeNar[],
): Promise<{ catalog: TestCatalog; asked: string[] }> {
  const log = new MadeLog();
  log.keys = [catalogKey];
  log.signers = [catalogKey];
  const records = nars.flatMap((nar): CatalogRecord[] => [
    { kind: 'torrentinfo', text: torrentInfoText(nar) },
    { kind: 'narinfo', fileHash: nar.fileHash, text: nar.narInfo.text },
  ]);
  const view = await log.addView('nixos-26.05', records);
  const head = log.head();
  const catalog = await lab.catalog(nars);
  const asked: string[] = [];
  catalog.intercept = ({ url = '' }, response) => {
    asked.push(url);
    if (url === '/catalog/head') response.end(head);
    else if (url === `/catalog/${view.sha256}.segment.zst`) response.end(log.files.get(view.sha256));
    else return false;
    return true;
  };
  return { catalog, asked };
}

t.test(
  'a narinfo of a view is written down once, also when it left the memory, and known for good',
  async (t) => {
    const lab = await Lab.open(t);
    const nars = ['one', 'two', 'three'].map((name) => madeNar({ name, sizeBytes: 1_000 }));
    const { catalog } = await catalogWithView(lab, nars);
    const dataDir = join(lab.dir, 'data');
    const options = { dataDir, views: ['nixos-26.05'], limits: { narInfosInMemory: 1 } };
    const client = await lab.client([], [catalog], options);
    await until(() => /"paths":3/.test(JSON.stringify(client.status())));
    const ask = async (): Promise<void> => {
      for (const nar of nars)
        t.equal((await get(client.url, `${nar.storeHash}.narinfo`)).body.toString(), nar.narInfo.text);
    };
    await ask();
    const journal = join(dataDir, 'client.sqlite-given');
    // Once more when the rest of the catalog has been looked at. Emptied, if the machine was busy for so long.
    await until(async () => {
      const before = (await readFile(journal)).length;
      await ask();
      return (await readFile(journal)).length <= before;
    });
    await client.close();
    const state = new ClientState({
      path: join(dataDir, 'client.sqlite'),
      narInfos: 1_000,
      torrents: 1,
      clock: Date.now,
    });
    for (const nar of nars) t.equal(state.givenByUrl(nar.narInfo.url)?.narInfo.text, nar.narInfo.text);
    state.close();
  },
);

t.test(
  'a client with a view answers narinfos and refers Nix to the swarm while its upstream is gone',
  async (t) => {
    const lab = await Lab.open(t);
    const nars = ['one', 'two'].map((name) => madeNar({ name, sizeBytes: 100_000 }));
    const { catalog, asked } = await catalogWithView(lab, nars);
    const upstream = await lab.upstream([]);
    upstream.intercept = (_request, response) => {
      response.destroy();
      return true;
    };
    const client = await lab.client([upstream], [catalog], { views: ['nixos-26.05'] });
    await until(() => /"paths":2/.test(JSON.stringify(client.status())));
    for (const nar of nars) t.ok((await fetchNar(client, nar)).body.equals(nar.bytes));
    t.match(client.status(), { narinfos: { viewed: 2, found: 0 }, nars: { swarm: 2 } });
    t.notOk(asked.some((url) => url.endsWith('.narinfo')));
    t.equal(upstream.requests.filter(({ url }) => url.endsWith('.narinfo')).length, 0);
  },
);

t.test(
  'a NAR file that a catalog revokes is dropped, no longer shared, and answered to nobody, for ever',
  async (t) => {
    const lab = await Lab.open(t);
    const [good, bad] = [
      madeNar({ name: 'good', sizeBytes: 50_000 }),
      madeNar({ name: 'bad', sizeBytes: 50_000 }),
    ];
    const log = new MadeLog();
    log.keys = [catalogKey];
    log.signers = [catalogKey];
    await log.addView('revocations', [
      { kind: 'revocation', fileHash: bad.fileHash, time: headTime, reason: 'holds another package' },
    ]);
    const catalog = await lab.catalog([good, bad]);
    const upstream = await lab.upstream([good, bad]);
    const config = { share: 'on', noUpstream: true } as const;
    let client = await lab.client([upstream], [catalog], config);
    for (const nar of [good, bad]) t.ok((await fetchNar(client, nar)).body.equals(nar.bytes));
    const address = client.peersAddress ?? '';
    // Shared as long as nobody knows better, once it is kept.
    await until(() => gives(address, bad));
    await client.close();

    const head = log.head();
    catalog.intercept = ({ url = '' }, response) => {
      if (url === '/catalog/head') response.end(head);
      else if (url === `/catalog/${log.views[0]?.sha256}.segment.zst`)
        response.end(log.files.get(log.views[0]?.sha256 ?? bad.fileHash));
      else return false;
      return true;
    };
    client = await lab.client([upstream], [catalog], config);
    await until(() => statusOf(client).cache.files === 1);
    t.equal((await get(client.url, `${bad.storeHash}.narinfo`)).status, 404);
    t.equal(
      (await get(client.url, bad.narInfo.url)).status,
      404,
      'under a URL that was given out before, too',
    );
    t.notOk(await gives(client.peersAddress ?? '', bad));
    t.ok(await gives(client.peersAddress ?? '', good));
    t.ok((await fetchNar(client, good)).body.equals(good.bytes));
    await client.close();

    catalog.intercept = undefined;
    const later = await lab.client([upstream], [catalog], config);
    t.equal((await get(later.url, `${bad.storeHash}.narinfo`)).status, 404, 'nor after a restart');
  },
);

t.test('a key that takes the place of the configured one is believed for torrents, too', async (t) => {
  const lab = await Lab.open(t);
  const nextKey = secretKeyFromSeed('catalog.test-2', Buffer.alloc(32, 7));
  const made = madeNar({ name: 'one', sizeBytes: 50_000 });
  const nar = { ...made, torrentInfo: signTorrentInfo({ ...made.torrentInfo, sigs: [] }, nextKey) };
  const log = new MadeLog();
  log.keys = [catalogKey, nextKey];
  log.signers = [catalogKey];
  const head = log.head();
  const catalog = await lab.catalog([nar]);
  let hasHead = false;
  catalog.intercept = ({ url }, response) => {
    if (url !== '/catalog/head') return false;
    if (hasHead) response.end(head);
    else response.writeHead(404).end();
    return true;
  };
  const config = { noUpstream: true };
  let client = await lab.client([], [catalog], config);
  t.equal((await get(client.url, nar.narInfo.url)).status, 404);
  const narInfo = await get(client.url, `${nar.storeHash}.narinfo`);
  t.equal(narInfo.status, 200);
  t.equal((await get(client.url, nar.narInfo.url)).status, 404, 'signed by a stranger');
  await client.close();
  hasHead = true;
  client = await lab.client([], [catalog], config);
  await until(async () => (await fetchNar(client, nar)).body.equals(nar.bytes));
});

/** Whether a peer has a NAR file. */
async function gives(address: string, nar: MadeNar): Promise<boolean> {
  const peer = parsePeer(address);
  if (peer === undefined) throw new Error(`no peer ${address}`);
  const fetch = new TorrentFetch({ torrent: nar.torrent, stallMs: 5_000 });
  fetch.addPeers([peer]);
  fetch.noMorePeers();
  try {
    for await (const { bytes } of fetch) if (bytes.length === 0) return false;
    return true;
  } catch {
    return false;
  }
}
