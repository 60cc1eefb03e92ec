/**
 * The seeder with a million NAR files and more; see scripts/bench/scale.ts.
 *
 *   node scripts/bench-scale.ts [--rows 1000000] [--whole-every 1] [--samples 3000] [--data DIR] [--only PART]…
 */
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { scaleRows } from './bench/scale.ts';
import { printTable } from './bench/table.ts';

const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: '1000000' },
    'whole-every': { type: 'string' },
    samples: { type: 'string', default: '3000' },
    data: { type: 'string' },
    only: { type: 'string', multiple: true },
    'node-flag': { type: 'string', multiple: true, default: [] },
  },
});
const [cpu] = cpus();
console.log(`${cpus().length} × ${cpu?.model ?? 'CPU'}, Node ${process.version}`);
const table = await scaleRows({
  rows: Number(values.rows),
  samples: Number(values.samples),
  nodeFlags: values['node-flag'],
  ...(values['whole-every'] === undefined ? {} : { wholeEvery: Number(values['whole-every']) }),
  ...(values.only === undefined ? {} : { only: values.only }),
  ...(values.data === undefined ? {} : { dataDir: values.data }),
});
console.log(printTable(table));
