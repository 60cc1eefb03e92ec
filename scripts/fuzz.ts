/**
 * Throws generated and spoilt inputs at everything that reads what strangers send, and prints what came of it. What fails is written to
 * tests/fuzz-corpus/, which `npm test` replays.
 *
 *   npm run fuzz -- [--inputs 10000000] [--seconds 600] [--seed 1] [--target narinfo,nar] [--case 123]
 */
import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { printTable } from './fuzz/report.ts';
import { type Failure, type RunResult, runTarget } from './fuzz/run.ts';
import { targets } from './fuzz/targets.ts';

const corpus = fileURLToPath(new URL('../tests/fuzz-corpus', import.meta.url));

const { values } = parseArgs({
  options: {
    inputs: { type: 'string', default: '10000000' },
    seconds: { type: 'string', default: '600' },
    seed: { type: 'string', default: '1' },
    target: { type: 'string' },
    case: { type: 'string' },
  },
});

const names = values.target?.split(',') ?? Object.keys(targets);
const seed = Number(values.seed);
const single = values.case === undefined ? undefined : Number(values.case);
const inputs = single === undefined ? Math.ceil(Number(values.inputs) / names.length) : 1;
const ms = (Number(values.seconds) * 1_000) / names.length;

const results = new Map<string, RunResult>();
for (const name of names) {
  const target = targets[name];
  if (target === undefined)
    throw new Error(`there is no target ${name}; there are ${Object.keys(targets).join(', ')}`);
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
