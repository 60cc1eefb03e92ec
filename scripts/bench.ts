/**
 * Measures what narswarm does beside what other programs do, in one run, and prints one table. What is not installed is left out by name.
 *
 *   npm run bench -- [--only large,small] [--runs 3] [--nars 1000000] [--list]
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Section, sections } from './bench/sections.ts';
import { printTable, type Row } from './bench/table.ts';

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    runs: { type: 'string', default: '3' },
    nars: { type: 'string', default: '1000000' },
    list: { type: 'boolean', default: false },
  },
});

if (values.list) for (const [name, { about }] of Object.entries(sections)) console.log(`${name}  ${about}`);
else await run(chosen(values.only));

function chosen(only: string | undefined): [string, Section][] {
  const names = only?.split(',') ?? Object.keys(sections);
  return names.map((name) => {
    const section = sections[name];
    if (section === undefined)
      throw new Error(`there is no section ${name}; there are ${Object.keys(sections).join(', ')}`);
    return [name, section];
  });
}

async function run(wanted: readonly [string, Section][]): Promise<void> {
  const dir = await mkdtemp(join('/dev/shm', 'narswarm-bench-')).catch(() =>
    mkdtemp(join(tmpdir(), 'narswarm-bench-')),
  );
  const options = { dir, runs: Number(values.runs), nars: Number(values.nars) };
  const rows: Row[] = [];
  try {
    for (const [name, section] of wanted) {
      process.stderr.write(`${name}: ${section.about}\n`);
      rows.push(...(await section.run(options).catch((error: Error) => [failed(name, error)])));
    }
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
  const [cpu] = cpus();
  const where = `${cpus().length} × ${cpu?.model ?? 'CPU'}, Node ${process.version}`;
  console.log(`${where}, files in ${dir.split('/', 3).join('/')}\n`);
  console.log(printTable(rows));
}

/** What could not be measured is a row, and the other sections still run. */
function failed(name: string, error: Error): Row {
  process.exitCode = 1;
  return { what: name, ours: '', theirs: '', note: `failed: ${error.message}` };
}
