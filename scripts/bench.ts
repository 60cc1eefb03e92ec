/**
 * Measures what narswarm does beside what other programs do, in one run, and prints one table. What is not installed is left out by name.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Section, sections } from './bench/sections.ts';
import { printTable, type Row } from './bench/table.ts';
import { countOf, namedIn, readOptions } from './usage.ts';

const usage = `npm run bench -- [--only large,small] [--runs 3] [--nars 1000000] [--list]

  --only  sections, all by default; --list says what there are
  --runs  of which the median counts
  --nars  rows of the catalog that the sections about a large one make`;

const { list, names, runs, nars } = readOptions(usage, () => {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
      runs: { type: 'string', default: '3' },
      nars: { type: 'string', default: '1000000' },
      list: { type: 'boolean', default: false },
    },
  });
  return {
    list: values.list,
    names: namedIn(Object.keys(sections), values.only),
    runs: countOf('runs', values.runs),
    nars: countOf('nars', values.nars),
  };
});

const wanted = Object.entries(sections).filter(([name]) => names.includes(name));
if (list) for (const [name, { about }] of wanted) console.log(`${name}  ${about}`);
else await run(wanted);

async function run(wanted: readonly [string, Section][]): Promise<void> {
  const dir = await mkdtemp(join('/dev/shm', 'narswarm-bench-')).catch(() =>
    mkdtemp(join(tmpdir(), 'narswarm-bench-')),
  );
  const options = { dir, runs, nars };
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
