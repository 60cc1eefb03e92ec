/** Follows the catalog in a directory, saying so after each file that it asks for, until it is killed. */

import { createReadStream } from 'node:fs';
import { CatalogFiles } from '../../catalog/files.ts';
import { followCatalog } from '../../catalog/follow.ts';
import { openFollowed } from '../../catalog/followed.ts';
import { headTime, logKey, nixStoreDir } from './made-log.ts';

const [filesDir = '', database = ''] = process.argv.slice(2);
const files = await CatalogFiles.open(filesDir);
const followed = openFollowed(database);
const options = { keys: [logKey.publicKey], nixStoreDir, now: () => headTime * 1000 };
await followCatalog(
  followed,
  {
    fetchHead: async () => ({ text: (await files.head()) ?? '' }),
    async *fetchFile({ sha256 }) {
      process.stdout.write(`${followed.records}\n`);
      for await (const chunk of createReadStream(files.path(sha256))) yield chunk as Buffer;
    },
  },
  options,
);
followed.close();
