/** A small run of the benchmark of large catalogs, and what has to hold at any size. */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { fetchFirstBlock } from '../../scripts/bench/first-block.ts';
import { python } from '../../scripts/bench/flood.ts';
import { makeCatalog } from '../../scripts/bench/made-catalog.ts';
import { MadeHasher } from '../../scripts/bench/made-files.ts';
import { madeTorrent } from '../../scripts/bench/made-rows.ts';
import { MadeSeederProcess } from '../../scripts/bench/made-seeder-process.ts';
import { scaleRows } from '../../scripts/bench/scale.ts';

const skip = existsSync('/proc/self/io') ? false : 'needs /proc';
const few = 200;
const many = 20_000;
/** A few are whole; those that are not weigh as much. */
const wholeEvery = 10;
const dir = await mkdtemp(join(tmpdir(), 'narswarm-scale-'));
t.teardown(() => rm(dir, { recursive: true }));

async function madeDataDir(rows: number): Promise<string> {
  const dataDir = join(dir, String(rows));
  await mkdir(dataDir);
  await makeCatalog(join(dataDir, 'catalog.sqlite'), { rows, wholeEvery });
  return dataDir;
}

const dataDirs = { few: await madeDataDir(few), many: await madeDataDir(many) };

/** What a seeder has read and what it takes once it is ready, and again after a few peers were served. */
async function weigh(dataDir: string): Promise<{ readAtStart: number; anonymousMib: number }> {
  const seeder = await MadeSeederProcess.start(dataDir);
  try {
    const readAtStart = seeder.bytesRead();
    await seeder.status();
    const hasher = new MadeHasher();
    for (let i = 0; i < few / wholeEvery; i++) {
      const torrent = madeTorrent(i * wholeEvery, hasher);
      (await fetchFirstBlock({ port: seeder.port, torrent })).socket.destroy();
    }
    return { readAtStart, anonymousMib: seeder.memory().anonymous };
  } finally {
    await seeder.stop();
  }
}

t.test(
  'a seeder reads no more at its start for a hundred times the NAR files, and takes no more memory',
  { skip },
  async (t) => {
    const small = await weigh(dataDirs.few);
    const large = await weigh(dataDirs.many);
    // The smallest index of the larger catalog has 280 KB, and its tables have 30 MB.
    t.ok(
      large.readAtStart - small.readAtStart < 128 * 1024,
      `${small.readAtStart} and ${large.readAtStart} bytes read`,
    );
    // An object for each row would take more; V8 alone differs by a few MiB from run to run.
    t.ok(large.anonymousMib - small.anonymousMib < 16, `${small.anonymousMib} and ${large.anonymousMib} MiB`);
  },
);

t.test(
  'every row of the benchmark is measured',
  { skip: skip || (existsSync(python) ? false : 'needs python3') },
  async (t) => {
    const table = await scaleRows({
      rows: many,
      wholeEvery,
      dataDir: dataDirs.many,
      samples: 100,
      connections: 300,
      floodPerSecond: 500,
      floodSeconds: 3,
      newFiles: 100,
    });
    t.ok(table.length >= 15);
    for (const { what, ours } of table) {
      t.match(what, /^20,000 NAR files: /);
      t.match(ours, /\d/, what);
      t.notMatch(ours, 'NaN', what);
    }
  },
);
