import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  anyText,
  many,
  offTo,
  optional,
  parseCommandLine,
  required,
  toggle,
  withDefault,
} from '../../cli/flags.ts';
import { printCommandHelp } from '../../cli/help.ts';
import { editDistance, nearest } from '../../cli/suggest.ts';
import { parseSize } from '../../cli/units.ts';

const flags = {
  data: optional({ value: 'DIR', help: 'where it is kept', parse: anyText }),
  'cache-size': withDefault({ value: 'SIZE', help: 'what it may take', parse: parseSize, fallback: '10GiB' }),
  upstream: many({ value: 'URL', help: 'from where', parse: anyText, fallback: ['https://cache.example'] }),
  share: toggle('share it'),
};

const parse = (...args: string[]) => parseCommandLine(flags, args);
const wrong = (message: RegExp) => ({ code: 'config-invalid', message });

t.test('values come after a space or an equals sign, and repeat where they may', async (t) => {
  const { values, positionals, given } = await parse(
    '--data',
    '/a',
    'one',
    '--upstream=x',
    '--upstream',
    'y',
    '--share',
    '--',
    '--two',
  );
  t.same(values, { data: '/a', 'cache-size': 10 * 2 ** 30, upstream: ['x', 'y'], share: true });
  t.same(positionals, ['one', '--two']);
  t.same([...given].sort(), ['data', 'share', 'upstream']);
});

t.test('what is not given has its default', async (t) => {
  const { values } = await parse();
  t.same(values, {
    data: undefined,
    'cache-size': 10 * 2 ** 30,
    upstream: ['https://cache.example'],
    share: false,
  });
});

t.test('a wrong command line says what to write', async (t) => {
  await t.rejects(parse('--cache-sise', '1'), wrong(/no flag --cache-sise; did you mean --cache-size\?/));
  await t.rejects(parse('--zzzzzz'), wrong(/^there is no flag --zzzzzz$/));
  await t.rejects(parse('-x'), wrong(/no flag -x/));
  await t.rejects(parse('--data'), wrong(/--data needs a value: --data DIR/));
  await t.rejects(parse('--data', '--share'), wrong(/if it is --share, write --data=--share/));
  await t.rejects(parse('--data='), wrong(/--data: an empty value/));
  await t.rejects(parse('--share=yes'), wrong(/is a switch/));
  await t.rejects(parse('--data', 'a', '--data', 'b'), wrong(/given twice/));
  await t.rejects(parse('--cache-size', '10GB'), wrong(/--cache-size: "10GB" is not a size; write .*10GiB/));
  await t.rejects(parse('--constructor'), wrong(/no flag --constructor/));
  const strict = { data: required({ value: 'DIR', help: '', parse: anyText }) };
  await t.rejects(parseCommandLine(strict, []), wrong(/--data: is missing; write DIR|--data/));
});

t.test('a flag that may stand alone takes the word after it only when that is one of its own', async (t) => {
  const own = {
    share: offTo<'lan' | 'on'>({ help: 'with whom', choices: ['off', 'lan', 'on'] }),
    data: optional({ value: 'DIR', help: 'where', parse: anyText }),
  };
  const shared = async (...args: string[]) => (await parseCommandLine(own, args)).values.share;
  t.equal(await shared(), 'off');
  t.equal(await shared('--share'), 'on');
  t.equal(await shared('--share', '--data', 'lan'), 'on');
  t.equal(await shared('--share', 'lan', '--data', 'x'), 'lan');
  t.equal(await shared('--share=off'), 'off');
  t.equal(await shared('--share=true'), 'on', 'as before there were words');
  t.equal(await shared('--share=false'), 'off');
  t.same((await parseCommandLine(own, ['--share', 'x'])).positionals, ['x']);
  t.same((await parseCommandLine(own, ['--', '--share'])).positionals, ['--share']);
  await t.rejects(
    shared('--share=wan'),
    wrong(/--share: "wan" is not one of the choices; write off, lan, on/),
  );
  const file = join(t.testdir(), 'config.json');
  for (const [value, meaning] of [
    [true, 'on'],
    [false, 'off'],
    ['lan', 'lan'],
  ] as const) {
    writeFileSync(file, JSON.stringify({ share: value }));
    t.equal(await shared('--config', file), meaning);
  }
});

t.test('--help wins over everything that is wrong with the values', async (t) => {
  const { help } = await parse('--cache-size', 'nonsense', '--help');
  t.equal(help, true);
  t.equal((await parse('-h')).help, true);
});

t.test('a configuration file gives values, and flags override it', async (t) => {
  const file = join(t.testdir(), 'config.json');
  const write = (value: unknown) => writeFileSync(file, JSON.stringify(value));
  write({ data: '/from-file', 'cache-size': 4096, upstream: ['a', 'b'], share: true });
  t.same((await parse('--config', file)).values, {
    data: '/from-file',
    'cache-size': 4096,
    upstream: ['a', 'b'],
    share: true,
  });
  const over = await parse('--config', file, '--data', '/flag', '--upstream', 'c', '--share=false');
  t.same(over.values, { data: '/flag', 'cache-size': 4096, upstream: ['c'], share: false });
  write({ 'cache-sizes': '1MiB', share: true });
  await t.rejects(parse('--config', file), wrong(/unknown key "cache-sizes", did you mean "cache-size"\?/));
  write({ data: { path: '/x' } });
  await t.rejects(parse('--config', file), wrong(/data must be a text or a number/));
  write({ upstream: ['a', { url: 'b' }] });
  await t.rejects(parse('--config', file), wrong(/upstream\[1\] must be/));
  write({ upstream: 'a' });
  await t.rejects(parse('--config', file), wrong(/upstream must be a list/));
  write({ 'cache-size': 'big' });
  await t.rejects(parse('--config', file), wrong(/--cache-size: "big" is not a size/));
  write([]);
  await t.rejects(parse('--config', file), wrong(/the file must be an object/));
  writeFileSync(file, '{"data": ');
  await t.rejects(parse('--config', file), wrong(/cannot read .*config\.json/));
  await t.rejects(parse('--config', `${file}.missing`), wrong(/cannot read/));
});

t.test('help lists every flag, aligned, with its default', async (t) => {
  const text = printCommandHelp({ name: 'try', summary: 'tries', flags, examples: ['try --share'] }, 80);
  for (const name of [...Object.keys(flags), 'config', 'help'])
    t.match(text, new RegExp(`^  --${name} `, 'm'));
  t.match(text, /default: 10GiB/);
  t.match(text.replaceAll(/\s+/g, ' '), /may be repeated \(default: https:\/\/cache\.example\)/);
  const columns = text
    .split('\n')
    .filter((line) => /^ {2}--/.test(line))
    .map((line) => /^ {2}--.*? {2,}(?=\S)/.exec(line)?.[0].length);
  t.equal(new Set(columns).size, 1, 'all descriptions start in one column');
  t.ok(text.split('\n').every((line) => line.length <= 80));
});

t.test('the nearest word is offered only when it is near', async (t) => {
  t.equal(editDistance('kitten', 'sitting'), 3);
  t.equal(editDistance('seeder', 'seedre'), 1);
  t.equal(nearest('clinet', ['client', 'seeder']), 'client');
  t.equal(nearest('torent', ['torrent', 'status']), 'torrent');
  t.equal(nearest('xyz', ['client', 'seeder']), undefined);
});
