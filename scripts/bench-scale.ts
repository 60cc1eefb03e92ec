/** The seeder with a million NAR files and more; see scripts/bench/scale.ts, and `--help`. */
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { scaleParts, scaleRows } from './bench/scale.ts';
import { printTable } from './bench/table.ts';
import { countOf, namedIn, readOptions } from './usage.ts';

const usage = `node scripts/bench-scale.ts [--rows 1000000] [--whole-every 1] [--samples 3000] [--data DIR] [--only PART]… [--node-flag FLAG]…

  --rows         NAR files of the catalog
  --whole-every  only each such row is whole: by default all, of more than two million every fiftieth
  --samples      torrents that are asked for
  --data         a directory with a made catalog of as many rows; without it one is made
  --only         ${scaleParts.join(', ')}
  --node-flag    of the seeder`;
const values = readOptions(usage, () => {
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
  const wholeEvery = values['whole-every'];
  return {
    rows: countOf('rows', values.rows),
    samples: countOf('samples', values.samples),
    nodeFlags: values['node-flag'],
    ...(wholeEvery === undefined ? {} : { wholeEvery: countOf('whole-every', wholeEvery) }),
    ...(values.only === undefined ? {} : { only: namedIn(scaleParts, values.only.join(',')) }),
    ...(values.data === undefined ? {} : { dataDir: values.data }),
  };
});
const [cpu] = cpus();
console.log(`${cpus().length} × ${cpu?.model ?? 'CPU'}, Node ${process.version}`);
const table = await scaleRows(values);
console.log(printTable(table));
