import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import t from 'tap';

const mib = 1024 * 1024;

/** Size of the young generation of a process that has kept the last of many objects for a while. */
async function youngBytes(small: boolean): Promise<number> {
  const { href } = new URL('../../cli/young-generation.ts', import.meta.url);
  const program = `
    import { getHeapSpaceStatistics } from 'node:v8';
    const { keepYoungGenerationSmall } = await import(${JSON.stringify(href)});
    if (${small}) keepYoungGenerationSmall();
    const kept = new Array(20_000);
    for (let i = 0; i < 3_000_000; i++) kept[i % kept.length] = { i, text: 'x' + i };
    const space = getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space');
    console.log(space.space_size);`;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program]);
  return Number(stdout);
}

t.test('the young generation does not grow once it is told to stay small', async (t) => {
  const [small, usual] = await Promise.all([youngBytes(true), youngBytes(false)]);
  t.ok(small <= 4 * mib, `${small} bytes`);
  t.ok(usual > 2 * small, `${usual} bytes without`);
});
