/**
 * Throws generated and spoilt inputs at everything that reads what strangers send, and prints what came of it. What fails is written to
 * tests/fuzz-corpus/, which `npm test` replays.
 */
import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { printTable } from './fuzz/report.ts';
import { type Failure, type RunResult, runTarget } from './fuzz/run.ts';
import { targets } from './fuzz/targets.ts';
import { countOf, namedIn, readOptions } from './usage.ts';

const corpus = fileURLToPath(new URL('../tests/fuzz-corpus', import.meta.url));

const usage = `npm run fuzz -- [--inputs 10000000] [--seconds 600] [--seed 1] [--target narinfo,nar] [--case 123]

  --inputs, --seconds  it ends with whichever comes first, shared out among the targets
  --seed               the same one makes the same inputs
  --target             ${Object.keys(targets).join(', ')}
  --case               that one input of the seed alone`;

const { names, seed, single, inputs, ms } = readOptions(usage, () => {
  const { values } = parseArgs({
    options: {
      inputs: { type: 'string', default: '10000000' },
      seconds: { type: 'string', default: '600' },
      seed: { type: 'string', default: '1' },
      target: { type: 'string' },
      case: { type: 'string' },
    },
  });
  const names = namedIn(Object.keys(targets), values.target);
  const single = values.case === undefined ? undefined : Number(values.case);
  if (single !== undefined && !(Number.isSafeInteger(single) && single >= 0))
    throw new Error(`--case takes the number of an input, not ${values.case}`);
  return {
    names,
    single,
    seed: countOf('seed', values.seed),
    inputs: single === undefined ? Math.ceil(countOf('inputs', values.inputs) / names.length) : 1,
    ms: (countOf('seconds', values.seconds) * 1_000) / names.length,
  };
});

const results = new Map<string, RunResult>();
for (const name of names) {
  const target = targets[name];
  if (target === undefined) continue;
  process.stderr.write(`${name}\n`);
  const result = runTarget({ name, target, seed, from: single ?? 0, inputs, ms, timed: true });
  results.set(name, result);
  for (const failure of result.failures) await report(failure);
}
console.log(`\nseed ${seed}, Node ${process.version}\n`);
console.log(printTable(results));
if ([...results.values()].some(({ failures }) => failures.length > 0)) process.exitCode = 1;

async function report({ target, seed, case: number, input, error }: Failure): Promise<void> {
  const name = createHash('sha256').update(input).digest('hex').slice(0, 16);
  await mkdir(join(corpus, target), { recursive: true });
  await writeFile(join(corpus, target, name), input);
  console.log(`FAILED ${target}: npm run fuzz -- --target ${target} --seed ${seed} --case ${number}`);
  console.log(`  input in tests/fuzz-corpus/${target}/${name}`);
  console.log(`  ${error instanceof Error ? error.stack : String(error)}`);
}
