import fc from 'fast-check';
import t from 'tap';
import { isNarswarmError } from '../../nar/errors.ts';
import { NarLister } from '../../nar/nar-listing.ts';
import { NarReader, narMaxDepth, narNameMaxBytes, narTargetMaxBytes } from '../../nar/nar-reader.ts';
import {
  narDirectoryStart,
  narEntryStart,
  narMagic,
  narNodeEnd,
  narPaddingBytes,
  narRegularStart,
  narString,
  narSymlink,
} from '../../nar/nar-writer.ts';

type Node = { file: string; executable?: boolean } | { link: string } | { entries: [string, Node][] };

function node(tree: Node): Buffer {
  if ('link' in tree) return narSymlink(tree.link);
  if ('file' in tree) {
    const bytes = Buffer.from(tree.file);
    const padding = Buffer.alloc(narPaddingBytes(bytes.length));
    return Buffer.concat([
      narRegularStart(bytes.length, tree.executable ?? false),
      bytes,
      padding,
      narNodeEnd,
    ]);
  }
  const entries = tree.entries.flatMap(([name, each]) => [narEntryStart(name), node(each), narNodeEnd]);
  return Buffer.concat([narDirectoryStart, ...entries, narNodeEnd]);
}

function nar(tree: Node): Buffer {
  return Buffer.concat([narMagic, node(tree)]);
}

function read(...chunks: Buffer[]): NarReader {
  const reader = new NarReader();
  for (const chunk of chunks) reader.write(chunk);
  reader.end();
  return reader;
}

const corrupt = { code: 'nar-corrupt' };
const sample: Node = {
  entries: [
    ['a', { file: 'twelve bytes' }],
    [
      'b',
      {
        entries: [
          ['run', { file: '#!', executable: true }],
          ['to', { link: '../a' }],
        ],
      },
    ],
    ['c', { entries: [] }],
    ['d', { file: '' }],
  ],
};

t.test('a NAR is read the same however it is cut into chunks', async () => {
  const bytes = nar(sample);
  const whole = listing(bytes, [bytes.length]);
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (sizes) => {
      return JSON.stringify(listing(bytes, sizes)) === JSON.stringify(whole);
    }),
  );
});

function listing(bytes: Buffer, sizes: number[]): object {
  const lister = new NarLister();
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const size = sizes[turn % sizes.length] ?? 1;
    lister.write(bytes.subarray(at, at + size));
    at += size;
  }
  return lister.finish();
}

t.test('a listing says what is where', async (t) => {
  const bytes = nar(sample);
  const { root } = listing(bytes, [7]) as {
    root: { entries: Record<string, { narOffset: number; size: number }> };
  };
  const file = root.entries.a;
  t.equal(
    bytes.subarray(file?.narOffset, (file?.narOffset ?? 0) + (file?.size ?? 0)).toString(),
    'twelve bytes',
  );
  t.match(root, {
    type: 'directory',
    entries: {
      b: { entries: { run: { executable: true, size: 2 }, to: { type: 'symlink', target: '../a' } } },
      c: { type: 'directory', entries: {} },
      d: { type: 'regular', size: 0 },
    },
  });
});

t.test('a file called __proto__ is listed like any other', async (t) => {
  const { root } = listing(nar({ entries: [['__proto__', { file: 'x' }]] }), [64]) as {
    root: { entries: object };
  };
  t.same(Object.keys(root.entries), ['__proto__']);
});

t.test('each rule of the grammar is kept', async (t) => {
  const bytes = nar(sample);
  t.throws(() => read(bytes, Buffer.alloc(1)), { ...corrupt, offset: bytes.length }, 'bytes after the end');
  t.throws(() => read(Buffer.from('not a NAR at all, but text')), corrupt, 'text');
  t.throws(() => read(Buffer.concat([narString('nix-archive-2'), node(sample)])), corrupt, 'another version');
  t.throws(
    () =>
      read(
        nar({
          entries: [
            ['b', { file: '' }],
            ['a', { file: '' }],
          ],
        }),
      ),
    corrupt,
    'entries out of order',
  );
  t.throws(
    () =>
      read(
        nar({
          entries: [
            ['a', { file: '' }],
            ['a', { file: '' }],
          ],
        }),
      ),
    corrupt,
    'an entry twice',
  );
  for (const name of ['', '.', '..', 'a/b', 'a\0b']) {
    t.throws(
      () => read(nar({ entries: [[name, { file: '' }]] })),
      corrupt,
      `the name ${JSON.stringify(name)}`,
    );
  }
  t.throws(() => read(nar({ link: '' })), corrupt, 'an empty target');
  t.throws(() => read(nar({ link: 'a\0b' })), corrupt, 'a target with a zero');
  const padded = nar({ file: 'x' });
  padded[padded.length - narNodeEnd.length - 1] = 1;
  t.throws(
    () => read(padded),
    { ...corrupt, offset: padded.length - narNodeEnd.length - 1 },
    'padding that is not zero',
  );
  const marked = Buffer.concat([narMagic, ...['(', 'type', 'regular', 'executable', 'yes'].map(narString)]);
  t.throws(() => read(marked), corrupt, 'a value for executable');
});

t.test('a NAR that is cut short anywhere is truncated', async (t) => {
  const bytes = nar(sample);
  for (let length = 0; length < bytes.length; length++) {
    const reader = new NarReader();
    reader.write(bytes.subarray(0, length));
    if (!throwsTruncated(reader)) t.fail(`cut at ${length}`);
  }
});

function throwsTruncated(reader: NarReader): boolean {
  try {
    reader.end();
    return false;
  } catch (error) {
    return isNarswarmError(error, 'nar-truncated');
  }
}

t.test('bounds hold to the byte', async (t) => {
  t.doesNotThrow(() => read(nar({ entries: [['n'.repeat(narNameMaxBytes), { file: '' }]] })));
  t.throws(
    () => read(nar({ entries: [['n'.repeat(narNameMaxBytes + 1), { file: '' }]] })),
    corrupt,
    'a long name',
  );
  t.doesNotThrow(() => read(nar({ link: 't'.repeat(narTargetMaxBytes) })));
  t.throws(() => read(nar({ link: 't'.repeat(narTargetMaxBytes + 1) })), corrupt, 'a long target');
  const nested = (depth: number): Node =>
    depth === 0 ? { file: '' } : { entries: [['d', nested(depth - 1)]] };
  t.doesNotThrow(() => read(nar(nested(narMaxDepth))));
  t.throws(() => read(nar(nested(narMaxDepth + 1))), corrupt, 'deep directories');
  const huge = Buffer.concat([narMagic, narString('(')]);
  const length = Buffer.alloc(8, 0xff);
  t.throws(() => read(huge, length), { ...corrupt, offset: huge.length }, 'a word of 2^64 bytes');
});

t.test('random bytes never throw anything but a NAR error', async () => {
  const words = fc.constantFrom(
    '(',
    ')',
    'type',
    'regular',
    'directory',
    'symlink',
    'target',
    'contents',
    'entry',
    'name',
    'node',
    'executable',
    '',
    'x',
  );
  const chunk = fc.oneof(
    words.map(narString),
    fc.uint8Array({ maxLength: 24 }).map((bytes) => Buffer.from(bytes)),
  );
  fc.assert(
    fc.property(fc.array(chunk, { maxLength: 30 }), (chunks) => {
      try {
        read(narMagic, ...chunks);
        return true;
      } catch (error) {
        return isNarswarmError(error, 'nar-corrupt', 'nar-truncated');
      }
    }),
    { numRuns: 2_000 },
  );
});
