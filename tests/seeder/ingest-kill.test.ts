import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { openCatalog } from '../../catalog/catalog.ts';
import { printPublicKey } from '../../nar/signature.ts';
import { storeHashOf } from '../../nar/store-path.ts';
import { type Built, sha256 } from '../helpers/cache-builder.ts';
import { openLab } from './ingest-lab.ts';

const child = fileURLToPath(new URL('./ingest-child.ts', import.meta.url));
const kills = 20;
const paths = 60;

t.test('killed at random moments, it goes on where it was and verifies nothing twice', async (t) => {
  const { cache, catalog, dir } = await openLab(t);
  catalog.close();
  const built: Built[] = [];
  for (let i = 0; i < paths; i++) {
    const data = Buffer.alloc(i % 9 === 0 ? 6_000_000 : 20_000 * (i % 7) + 100, `${i} of many `);
    built.push(await cache.add({ name: `n${i}`, tree: { data }, compression: i % 3 === 0 ? 'xz' : 'zstd' }));
  }
  const run = async (killAfter: number | undefined): Promise<string | undefined> => {
    const process = spawn(
      globalThis.process.execPath,
      [child, dir, cache.url, printPublicKey(cache.publicKey)],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const closed = once(process, 'close');
    let last: string | undefined;
    let dones = 0;
    for await (const line of createInterface({ input: process.stdout })) {
      last = line;
      if (line.startsWith('done') && dones++ === killAfter) process.kill('SIGKILL');
    }
    await closed;
    return last;
  };
  let acceptedBefore = 0;
  let bytesBefore = 0;
  for (let kill = 0; kill < kills; kill++) {
    await run(Math.floor(Math.random() * 6) + (kill % 3 === 0 ? acceptedBefore : 0));
    const now = openCatalog(`${dir}/catalog.sqlite`);
    const counts = now.counts();
    t.equal(counts.rejected, 0);
    t.ok(counts.narinfos >= acceptedBefore, `${counts.narinfos} after kill ${kill}`);
    for (const { narFile, storePath, narInfo } of built) {
      const text = now.narInfo(storeHashOf(storePath));
      if (text === undefined) continue;
      const entry = now.byFileHash(sha256(narFile));
      const whole =
        text === narInfo.text && entry && now.pieces(entry.infoHash) && now.pieces(entry.narInfoHash);
      if (!whole) t.fail(`${storePath} is half there`);
    }
    acceptedBefore = counts.narinfos;
    bytesBefore = counts.bytes;
    now.close();
  }
  const last = await run(undefined);
  const end = openCatalog(`${dir}/catalog.sqlite`);
  t.match(end.counts(), { nars: paths, narinfos: paths, rejected: 0 });
  t.equal(last, `bytes ${end.counts().bytes - bytesBefore}`, 'what was finished was not read again');
  end.close();
});
