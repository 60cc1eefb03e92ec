/** Closes packs, and kills itself before the call COUNT of method NAME: `pack-child.ts DATA-DIR NAME COUNT`. Says `end` otherwise. */

import { openCatalog } from '../../catalog/catalog.ts';
import { narFilesOnDisk } from '../../seeder/nar-files.ts';
import { PackCloser } from '../../seeder/pack-closer.ts';
import { PackFiles } from '../../seeder/pack-files.ts';
import { silentLogger } from '../../web/log.ts';
import { catalogKey } from './pack-lab.ts';

const [dataDir = '', lastName, lastCount] = process.argv.slice(2);
const counts = new Map<string, number>();

function step(name: string): void {
  const count = (counts.get(name) ?? 0) + 1;
  counts.set(name, count);
  if (name === lastName && count === Number(lastCount)) process.kill(process.pid, 'SIGKILL');
}

/** Counts the calls of these methods. */
function stepped<T extends object>(object: T, names: readonly (keyof T & string)[]): T {
  for (const name of names) {
    const method = object[name];
    if (typeof method !== 'function') throw new Error(`${name} is no method`);
    const call = (...values: unknown[]): unknown => {
      step(name);
      return Reflect.apply(method, object, values);
    };
    Object.defineProperty(object, name, { value: call, configurable: true });
  }
  return object;
}

const catalog = openCatalog(`${dataDir}/catalog.sqlite`);
stepped(catalog.packs, ['put', 'putPlaces', 'complete']);
const packFiles = stepped(await PackFiles.open(`${dataDir}/packs`), ['write']);
const { write } = packFiles;
Object.defineProperty(packFiles, 'write', {
  value: async (meta: Buffer) => stepped(await write(meta), ['nameIt']),
});
const closer = await PackCloser.open({
  rules: { sizeBytes: 56 * 1024, ageMs: 0 },
  catalog,
  narFiles: stepped(narFilesOnDisk(`${dataDir}/store`), ['open']),
  packFiles,
  secretKey: catalogKey,
  nixStoreDir: () => '/nix/store',
  onClosed: () => step('onClosed'),
  logger: silentLogger,
});
await closer.closeDue();
await closer.close();
catalog.close();
console.log('end');
