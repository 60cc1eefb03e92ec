/** Follows the catalog in a directory, in a process of its own so that its memory is known: `follow-process.ts FILES DATABASE`. */

import { createReadStream } from 'node:fs';
import { CatalogFiles } from '../../catalog/files.ts';
import { followCatalog } from '../../catalog/follow.ts';
import { openFollowed } from '../../catalog/followed.ts';
import { followKey, followStoreDir } from './follow-log.ts';

const [filesDir = '', database = ''] = process.argv.slice(2);
const source = await CatalogFiles.open(filesDir);
const followed = openFollowed(database);
const before = followed.records;
const startedMs = performance.now();
const transport = {
  fetchHead: async () => ({ text: (await source.head()) ?? '' }),
  async *fetchFile(file: { sha256: Parameters<CatalogFiles['path']>[0] }) {
    for await (const chunk of createReadStream(source.path(file.sha256))) yield chunk as Buffer;
  },
};
const { records } = await followCatalog(followed, transport, {
  ...{ keys: [followKey.publicKey], nixStoreDir: followStoreDir, now: Date.now },
});
followed.close();
const seconds = (performance.now() - startedMs) / 1000;
const { maxRSS, userCPUTime, systemCPUTime } = process.resourceUsage();
const cpuSeconds = (userCPUTime + systemCPUTime) / 1e6;
console.log(JSON.stringify({ records: records - before, seconds, cpuSeconds, maxRssBytes: maxRSS * 1024 }));
