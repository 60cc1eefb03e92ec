/** Ranges, as RFC 9110 has them. */

import fc from 'fast-check';
import t from 'tap';
import { parseRange } from '../../web/range.ts';

t.test('one range of bytes is understood in each of its forms', async (t) => {
  const cases: [string, number, number][] = [
    ['bytes=0-0', 0, 1],
    ['bytes=0-99', 0, 100],
    ['bytes=0-', 0, 100],
    ['bytes=99-', 99, 1],
    ['bytes=10-19', 10, 10],
    ['bytes=10-1000', 10, 90],
    ['bytes=-1', 99, 1],
    ['bytes=-100', 0, 100],
    ['bytes=-1000', 0, 100],
    ['BYTES=5-', 5, 95],
  ];
  for (const [header, start, lengthBytes] of cases)
    t.same(parseRange(header, 100), { start, lengthBytes }, header);
});

t.test('a range without a byte of the file cannot be satisfied', async (t) => {
  for (const header of ['bytes=100-', 'bytes=100-200', 'bytes=-0', 'bytes=99999999999999999999-']) {
    t.equal(parseRange(header, 100), 'unsatisfiable', header);
  }
  for (const header of ['bytes=0-', 'bytes=0-0', 'bytes=-1'])
    t.equal(parseRange(header, 0), 'unsatisfiable', header);
});

t.test('several ranges, other units and what is malformed are ignored', async (t) => {
  for (const header of [
    undefined,
    '',
    'bytes',
    'bytes=',
    'bytes=-',
    'bytes=a-b',
    'bytes=1-2,3-4',
    'bytes=5-2',
    'items=0-1',
    'bytes=0x1-2',
    'bytes=1.5-2',
    'bytes=+1-2',
    'bytes=1-2-3',
    `bytes=0-${'9'.repeat(100)}`,
  ]) {
    t.equal(parseRange(header, 100), undefined, String(header));
  }
});

t.test('whatever is asked, a range lies within the file', async () => {
  const numbers = fc.oneof(fc.nat(300).map(String), fc.constant(''), fc.string({ maxLength: 3 }));
  const headers = fc.tuple(numbers, numbers).map(([first, last]) => `bytes=${first}-${last}`);
  fc.assert(
    fc.property(headers, fc.nat(200), (header, size) => {
      const range = parseRange(header, size);
      if (range === undefined || range === 'unsatisfiable') return true;
      return range.start >= 0 && range.lengthBytes > 0 && range.start + range.lengthBytes <= size;
    }),
  );
});
