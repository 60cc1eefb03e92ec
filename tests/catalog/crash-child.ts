/** Accepts rows for ever, one transaction each and some in batches, until it is killed. Says when it begins to write. */

import { openCatalog } from '../../catalog/catalog.ts';
import { row } from './made-rows.ts';

const [, , path, first] = process.argv;
if (path === undefined || first === undefined) throw new Error('usage: crash-child.ts DATABASE FIRST');
const catalog = openCatalog(path);
for (let n = Number(first); ; n++) {
  catalog.accept(row(n));
  catalog.acceptAlias({ ...row(n, { path: -n - 1 }), fileHash: row(n).entry.fileHash });
  if (n % 50 === 0) process.stdout.write(`${n}\n`);
}
