import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { DatabaseSync } from 'node:sqlite';
import t from 'tap';
import { openCatalog } from '../../catalog/catalog.ts';
import { parseStoreHash } from '../../nar/store-path.ts';
import { row, storeHashText } from './made-rows.ts';

const child = new URL('crash-child.ts', import.meta.url).pathname;

/** How many lines of the child's progress to see before killing it: different moments in the life of the log. */
const killAfterLines = [1, 2, 7, 3, 12];

t.test('a catalog whose writer is killed opens whole, with all that was accepted before', async (t) => {
  const path = `${t.testdir()}/catalog.sqlite`;
  let next = 1;
  for (const lines of killAfterLines) {
    const reached = await writeAndKill(path, next, lines);
    const db = new DatabaseSync(path);
    t.strictSame(db.prepare('PRAGMA integrity_check').all().map(Object.values), [['ok']]);
    db.close();
    const catalog = openCatalog(path);
    const { nars, narinfos, bytes } = catalog.counts();
    t.ok(nars >= reached, `${nars} NAR files, at least ${reached} were reported`);
    t.ok(narinfos === 2 * nars || narinfos === 2 * nars - 1, `${narinfos} narinfos`);
    let wholeBytes = 0;
    let whole = 0;
    for (let n = 1; n <= nars; n++) {
      const made = row(n);
      const isWhole =
        isSame(catalog.byFileHash(made.entry.fileHash), made.entry) &&
        catalog.pieces(made.entry.infoHash)?.equals(made.filePieces) &&
        catalog.pieces(made.entry.narInfoHash)?.equals(made.narPieces) &&
        catalog.narInfo(parseStoreHash(storeHashText(n))) === made.narInfo.text;
      if (isWhole) whole++;
      wholeBytes += made.entry.fileSize;
    }
    t.equal(whole, nars, 'every row is whole');
    t.equal(wholeBytes, bytes, 'the counters were killed with their rows');
    catalog.close();
    // The last one again: its second narinfo may be missing.
    next = nars;
  }
});

function isSame(a: unknown, b: unknown): boolean {
  const text = (value: unknown) =>
    JSON.stringify(value, (_, part) => (typeof part === 'bigint' ? `${part}n` : part));
  return text(a) === text(b);
}

/** Gives the last number that the child reported as accepted. */
async function writeAndKill(path: string, first: number, lines: number): Promise<number> {
  const writer = spawn(process.execPath, [child, path, String(first)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exit = once(writer, 'exit');
  let output = '';
  for await (const chunk of writer.stdout) {
    output += chunk;
    if (output.split('\n').length > lines) writer.kill('SIGKILL');
  }
  await exit;
  return Number(output.trimEnd().split('\n').at(-1));
}
