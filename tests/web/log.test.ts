/** Log lines, for machines and for people. */

import t from 'tap';
import { NarswarmError } from '../../nar/errors.ts';
import { type LoggerOptions, logFieldMaxCharacters, makeLogger } from '../../web/log.ts';

function logged(options: LoggerOptions, event: string, fields?: Record<string, unknown>): string {
  let text = '';
  const logger = makeLogger({ clock: () => 0, write: (line) => (text += line), ...options });
  logger.warn(event, fields);
  return text;
}

t.test('a line of JSON has time, level, event and the fields', async (t) => {
  const error = new NarswarmError('upstream-failed', 'no answer', { cause: new Error('lost') });
  const line = logged({ human: false }, 'narinfo-failed', { count: 3, size: 5n, error });
  t.equal(line.at(-1), '\n');
  t.same(JSON.parse(line), {
    count: 3,
    size: 5,
    error: 'upstream-failed: no answer (lost)',
    time: '1970-01-01T00:00:00.000Z',
    level: 'warn',
    event: 'narinfo-failed',
  });
});

t.test('fields cannot displace what is the line’s own, nor break it', async (t) => {
  const circular: Record<string, unknown> = {};
  circular.circular = circular;
  t.match(JSON.parse(logged({ human: false }, 'e', { event: 'other', text: 'two\nlines' })), { event: 'e' });
  t.match(JSON.parse(logged({ human: false }, 'e', circular)), { event: 'e', fields: 'not printable' });
  t.equal(logged({ human: false }, 'e', { text: 'two\nlines' }).split('\n').length, 2);
  t.ok(logged({ human: false }, 'e', { text: 'x'.repeat(10_000) }).length < logFieldMaxCharacters + 200);
});

t.test('people read a line without control characters', async (t) => {
  t.equal(
    logged({ human: true }, 'e', { a: 1, b: 'x y', c: 'plain' }),
    '00:00:00 WARN e a=1 b="x y" c=plain\n',
  );
  t.notOk(logged({ human: true }, 'e', { a: '\x1b[31mred', b: new Error('\x1b[31m') }).includes('\x1b'));
});

t.test('less than the level is not written', async (t) => {
  t.equal(logged({ level: 'error' }, 'e'), '');
  t.equal(logged({ level: 'silent' }, 'e'), '');
  t.not(logged({ level: 'warn' }, 'e'), '');
});
