import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import t from 'tap';
import { CatalogFiles } from '../../catalog/files.ts';
import { followCatalog } from '../../catalog/follow.ts';
import { openFollowed } from '../../catalog/followed.ts';
import { headTime, logKey, MadeLog, MadeTransport, narFiles, nixStoreDir } from './made-log.ts';
import { row } from './made-rows.ts';

const child = new URL('follow-child.ts', import.meta.url).pathname;
const segments = 5;
/** Large enough to be read on the thread. */
const filesEach = 800;

t.test('a follower that is killed anywhere goes on where it was', async (t) => {
  const dir = t.testdir();
  const files = await CatalogFiles.open(join(dir, 'files'));
  const log = new MadeLog();
  for (let index = 0; index < segments; index++) {
    const { sha256 } = await log.add(narFiles(1 + index * filesEach, filesEach));
    await files.put([log.files.get(sha256) ?? Buffer.alloc(0)]);
  }
  await files.putHead(log.head());
  const database = join(dir, 'followed.sqlite');
  let before = 0;
  for (const lines of [1, 2, 3, 4]) {
    const follower = spawn(process.execPath, [child, files.dir, database], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const exit = once(follower, 'exit');
    let output = '';
    for await (const chunk of follower.stdout) {
      output += chunk;
      if (output.split('\n').length > lines) follower.kill('SIGKILL');
    }
    await exit;
    const db = new DatabaseSync(database);
    t.strictSame(db.prepare('PRAGMA integrity_check').all().map(Object.values), [['ok']]);
    db.close();
    const followed = openFollowed(database);
    const { records } = followed;
    t.ok(records >= before && records % (2 * filesEach) === 0, `${records} records, in whole segments`);
    t.equal(followed.counts().narFiles, records / 2);
    followed.close();
    before = records;
  }
  const followed = openFollowed(database);
  t.teardown(() => followed.close());
  const transport = new MadeTransport(log, (await files.head()) ?? '');
  const missing = segments - before / (2 * filesEach);
  const options = { keys: [logKey.publicKey], nixStoreDir, now: () => headTime * 1000 };
  t.match(await followCatalog(followed, transport, options), { records: 2 * segments * filesEach });
  t.equal(transport.asked.length, 1 + missing, 'what was there is not fetched again');
  for (let n = 1; n <= segments * filesEach; n += 97) {
    if (followed.ordinal(row(n).entry.fileHash) !== n - 1) t.fail(`NAR file ${n}`);
  }
});
