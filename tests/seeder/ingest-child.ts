/** An ingest that a test kills: `ingest-child.ts DATA-DIR SOURCE PUBLIC-KEY`. Says `done` for each narinfo, and `end`. */

import { openCatalog } from '../../catalog/catalog.ts';
import { parsePublicKey } from '../../nar/signature.ts';
import { Ingest } from '../../seeder/ingest.ts';
import { openDirectoryStore } from '../../store/directory-store.ts';
import { catalogKey } from './ingest-lab.ts';

const [dataDir = '', source = '', key = ''] = process.argv.slice(2);
const ingest = new Ingest({
  dataDir,
  sources: [source],
  trustedKeys: [parsePublicKey(key)],
  secretKey: catalogKey,
  catalog: openCatalog(`${dataDir}/catalog.sqlite`),
  store: await openDirectoryStore(`${dataDir}/store`),
  workers: 2,
  clock: (() => {
    let now = 0;
    return () => (now += 1000);
  })(),
  onProgress: ({ done }) => console.log(`done ${done}`),
});
await ingest.run();
console.log(`bytes ${ingest.progress().bytes}`);
await ingest.close();
