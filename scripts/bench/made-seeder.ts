/**
 * The seeder as it is, over a catalog of made NAR files whose contents are made as they are read:
 *
 *   made-seeder.ts DATA-DIR [SOURCE-DIR]
 *
 * Prints the seeder's own ready line. A line on standard input asks how long its event loop stood still at most since the last one; it
 * closes when the input ends.
 */

import { monitorEventLoopDelay } from 'node:perf_hooks';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { keepYoungGenerationSmall } from '../../cli/young-generation.ts';

// As the command line does it: before the rest is loaded.
keepYoungGenerationSmall();
const { readyLine } = await import('../../cli/serve.ts');
const { openSeeder } = await import('../../seeder/main.ts');
const { narFilesOnDisk } = await import('../../seeder/nar-files.ts');
const { makeLogger } = await import('../../web/log.ts');
const { cacheKey, catalogKey, madeNarFiles, sourceUrl } = await import('./made-rows.ts');

const [dataDir = '', sourceDir] = process.argv.slice(2);
const onDisk = narFilesOnDisk(dataDir);
const delay = monitorEventLoopDelay({ resolution: 1 });
delay.enable();
const seeder = await openSeeder({
  // A million NAR files would be put together meanwhile.
  packs: { sizeBytes: 0 },
  dataDir,
  sources: sourceDir === undefined ? [] : [pathToFileURL(sourceDir).href],
  trustedKeys: [cacheKey.publicKey],
  secretKey: catalogKey,
  http: { host: '127.0.0.1', port: 0 },
  peers: { host: '127.0.0.1', port: 0 },
  narFiles: {
    open: (entry) => (entry.location.source === sourceUrl ? madeNarFiles : onDisk).open(entry),
  },
  logger: makeLogger({ level: 'warn' }),
});
process.stdout.write(readyLine({ role: 'seeder', ...seeder }));
for await (const _line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify({ maxMs: delay.max / 1e6, p99Ms: delay.percentile(99) / 1e6 }));
  delay.reset();
}
await seeder.close();
