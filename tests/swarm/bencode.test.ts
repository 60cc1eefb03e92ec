import { deepStrictEqual } from 'node:assert';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { isNarswarmError } from '../../nar/errors.ts';
import {
  type BencodeValue,
  bencode,
  bencodeDepthMax,
  bencodeKeyMaxBytes,
  bencodeValuesMax,
  parseBencode,
  parseBencodePrefix,
} from '../../swarm/bencode.ts';

const { value: bencodeValue } = fc.letrec<{ value: BencodeValue }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.maxSafeInteger().map((n) => n + 0),
    fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
    fc.array(tie('value'), { maxLength: 5 }),
    fc
      .array(fc.tuple(fc.uint8Array({ maxLength: 8 }), tie('value')), { maxLength: 5 })
      .map((entries) => new Map(entries.map(([key, item]) => [Buffer.from(key).toString('latin1'), item]))),
  ),
}));

function parse(text: string, limits = {}) {
  return parseBencode(Buffer.from(text, 'latin1'), limits);
}

function refused(t: Test, text: string, offset: number, limits = {}) {
  try {
    parse(text, limits);
    t.fail(`${text.slice(0, 40)} was parsed`);
  } catch (error) {
    if (!isNarswarmError(error, 'bencode-invalid')) throw error;
    t.equal(error.offset, offset, `${text.slice(0, 40)}: ${error.message}`);
  }
}

t.test('every value survives being written and parsed', async (t) => {
  fc.assert(
    fc.property(bencodeValue, (value) => {
      deepStrictEqual(parseBencode(bencode(value)), value);
    }),
  );
  t.strictSame(
    parse('d1:ai-7e2:bbl0:1:xee'),
    new Map<string, BencodeValue>([
      ['a', -7],
      ['bb', [Buffer.from(''), Buffer.from('x')]],
    ]),
  );
});

t.test('whatever is parsed has exactly one encoding, and anything else is refused with a code', async () => {
  const alphabet = fc.constantFrom(...'dlie:-0123456789a');
  const texts = fc.oneof(
    fc.string({ unit: alphabet, maxLength: 24 }),
    fc.string({ unit: 'binary', maxLength: 24 }),
  );
  fc.assert(
    fc.property(texts, (text) => {
      const bytes = Buffer.from(text, 'latin1');
      let value: BencodeValue;
      try {
        value = parseBencode(bytes);
      } catch (error) {
        return (
          isNarswarmError(error, 'bencode-invalid') &&
          error.offset !== undefined &&
          error.offset <= bytes.length
        );
      }
      return bencode(value).equals(bytes);
    }),
    { numRuns: 5000 },
  );
});

t.test(
  'a valid message with one byte changed is refused or means something else, never the same',
  async () => {
    fc.assert(
      fc.property(bencodeValue, fc.nat(), fc.integer({ min: 1, max: 255 }), (value, where, flip) => {
        const bytes = bencode(value);
        const changed = Buffer.from(bytes);
        const at = where % bytes.length;
        changed[at] = (changed[at] ?? 0) ^ flip;
        try {
          return bencode(parseBencode(changed)).equals(changed);
        } catch (error) {
          return isNarswarmError(error, 'bencode-invalid');
        }
      }),
      { numRuns: 1000 },
    );
  },
);

t.test('what is not canonical is refused at its byte', async (t) => {
  refused(t, '', 0);
  refused(t, 'i1', 2);
  refused(t, 'ie', 1);
  refused(t, 'i-e', 2);
  refused(t, 'i-0e', 1);
  refused(t, 'i01e', 1);
  refused(t, 'i+1e', 1);
  refused(t, 'i1.5e', 2);
  refused(t, 'i9007199254740992e', 1);
  refused(t, `i${'9'.repeat(5000)}e`, 1);
  refused(t, '01:a', 0);
  refused(t, '-1:a', 0);
  refused(t, '2:a', 0);
  refused(t, '9007199254740991:a', 0);
  refused(t, 'i1ei2e', 3);
  refused(t, 'li1e', 4);
  refused(t, 'd1:a', 4);
  refused(t, 'di1ei2ee', 1);
  refused(t, 'd1:bi1e1:ai2ee', 7);
  refused(t, 'd1:ai1e1:ai2ee', 7);
  refused(t, 'x', 0);
});

t.test('depth, number of values and length of keys are bounded', async (t) => {
  const deep = (levels: number) => 'l'.repeat(levels) + 'e'.repeat(levels);
  t.doesNotThrow(() => parse(deep(bencodeDepthMax + 1)));
  refused(t, deep(bencodeDepthMax + 2), bencodeDepthMax + 1);
  refused(t, 'l'.repeat(1_000_000), bencodeDepthMax + 1);
  t.doesNotThrow(() => parse(`l${'le'.repeat(bencodeValuesMax - 1)}e`));
  refused(t, `l${'le'.repeat(bencodeValuesMax)}e`, 2 * bencodeValuesMax - 1);
  refused(t, 'lli1eee', 2, { depthMax: 1 });
  refused(t, 'li1ei2ee', 4, { valuesMax: 2 });
  t.doesNotThrow(() => parse(`d${bencodeKeyMaxBytes}:${'k'.repeat(bencodeKeyMaxBytes)}0:e`));
  refused(t, `d${bencodeKeyMaxBytes + 1}:${'k'.repeat(bencodeKeyMaxBytes + 1)}0:e`, 1);
});

t.test('unsorted keys are taken when asked for, a key twice never', async (t) => {
  t.strictSame(
    parse('d1:bi1e1:ai2ee', { anyKeyOrder: true }),
    new Map([
      ['b', 1],
      ['a', 2],
    ]),
  );
  refused(t, 'd1:bi1e1:ai2e1:bi3ee', 13, { anyKeyOrder: true });
});

t.test('a value is cut from what follows it', async (t) => {
  const bytes = Buffer.from('d8:msg_typei1eeRAW');
  t.equal(parseBencodePrefix(bytes).lengthBytes, bytes.length - 3);
});

t.test('byte strings share the memory of the input', async (t) => {
  const bytes = Buffer.from('3:abc');
  const value = parseBencode(bytes);
  t.ok(Buffer.isBuffer(value) && value.buffer === bytes.buffer);
});

t.test('dictionaries are written in byte order, from records and from Maps, with any keys', async (t) => {
  t.equal(
    bencode({ 'piece length': 1, pieces: 'p', name: 'ü' }).toString('latin1'),
    'd4:name2:Ã¼12:piece lengthi1e6:pieces1:pe',
  );
  const keys = new Map([
    ['\xff', 1],
    ['\x00', 2],
    ['__proto__', 3],
  ]);
  t.equal(bencode(keys).toString('latin1'), 'd1:\x00i2e9:__proto__i3e1:\xffi1ee');
  t.strictSame([...(parseBencode(bencode(keys)) as Map<string, number>)], [...keys].sort());
});

t.test('what has no encoding is not written', async (t) => {
  for (const value of [0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53]) {
    t.throws(() => bencode(value), { code: 'bencode-invalid' });
  }
  t.throws(() => bencode({ '\u0100': 1 }), { code: 'bencode-invalid' });
  t.equal(bencode(-0).toString(), 'i0e');
});
