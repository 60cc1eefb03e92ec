import { deflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import t from 'tap';
import { Bitmap } from '../../nar/bitmap.ts';
import {
  type OrdinalBase,
  parseCoverage,
  parseCoverageAnswer,
  printCoverage,
  printCoverageAnswer,
} from '../../parts/coverage.ts';
import { sha256 } from '../helpers/cache-builder.ts';

function baseOf(ordinals: number, name = 'a'): OrdinalBase {
  return {
    ordinals,
    byOrdinal: (ordinal) => (ordinal < ordinals ? sha256(Buffer.from(`${name}${ordinal}`)) : undefined),
  };
}

t.test('what is told is what is read', async () => {
  const anyHeld = fc.integer({ min: 1, max: 300 }).chain((ordinals) =>
    fc.record({
      ordinals: fc.constant(ordinals),
      held: fc.uniqueArray(fc.nat(ordinals - 1)),
      more: fc.nat(20),
    }),
  );
  await fc.assert(
    fc.asyncProperty(anyHeld, async ({ ordinals, held, more }) => {
      const bitmap = new Bitmap(ordinals);
      for (const ordinal of held) bitmap.add(ordinal);
      // The catalog may be further on where it is read.
      const read = await parseCoverage(
        JSON.parse(await printCoverage({ port: 6881, held: bitmap }, baseOf(ordinals))),
        baseOf(ordinals + more),
      );
      return (
        read.port === 6881 && read.held.length === ordinals && [...read.held].join() === [...bitmap].join()
      );
    }),
  );
});

t.test('a million NAR files take a hundred and some kilobytes, all of them next to nothing', async (t) => {
  const all = new Bitmap(1_000_000, Buffer.alloc(125_000, 0xff));
  t.ok((await printCoverage({ port: 1, held: all }, baseOf(1_000_000))).length < 1_000);
  let seed = 1;
  const some = new Bitmap(1_000_000);
  for (let ordinal = 0; ordinal < some.length; ordinal++) {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    if (seed > 0x7fff_ffff) some.add(ordinal);
  }
  t.ok((await printCoverage({ port: 1, held: some }, baseOf(1_000_000))).length < 170_000);
});

t.test('what is no coverage of this catalog is refused', async (t) => {
  const base = baseOf(10);
  const good = JSON.parse(await printCoverage({ port: 6881, held: new Bitmap(10) }, base));
  const deflated = (bytes: Buffer): string => deflateRawSync(bytes).toString('base64');
  const wrong: Record<string, object> = {
    nothing: {},
    'another format': { ...good, format: 'narswarm-coverage-2' },
    'no port': { ...good, port: 0 },
    'more ordinals than there are': { ...good, ordinals: 11 },
    'another first': { ...good, first: base.byOrdinal(1) },
    'another last': { ...good, last: base.byOrdinal(8) },
    'no hash': { ...good, last: 'x' },
    'too few bits': { ...good, held: deflated(Buffer.alloc(1)) },
    'too many bits': { ...good, held: deflated(Buffer.alloc(3)) },
    'a bomb': { ...good, held: deflated(Buffer.alloc(50_000_000)) },
    'a bit after the last ordinal': { ...good, held: deflated(Buffer.from([0, 0x04])) },
    'no deflated bytes': { ...good, held: 'AAAA' },
    'no base64': { ...good, held: '*' },
  };
  await t.rejects(
    parseCoverage({ ...good, held: deflated(Buffer.alloc(50_000_000)) }, base),
    { message: /more than 2 bytes/ },
    'a bomb is not even inflated',
  );
  t.ok(await parseCoverage(good, base));
  for (const [what, body] of Object.entries(wrong)) {
    await t.rejects(parseCoverage(body, base), { code: 'coverage-invalid' }, what);
  }
  const strangers = await printCoverage({ port: 6881, held: new Bitmap(10) }, baseOf(10, 'b'));
  await t.rejects(parseCoverage(JSON.parse(strangers), base), { code: 'coverage-invalid' });
});

t.test('whatever is said, it is taken or refused', async () => {
  await fc.assert(
    fc.asyncProperty(fc.anything(), async (body) => {
      await parseCoverage(body, baseOf(10)).catch((error) => {
        if (error.code !== 'coverage-invalid') throw error;
      });
    }),
  );
});

t.test('the answer', async (t) => {
  const seeds = Uint8Array.from([0, 1, 255]);
  const demand = Uint8Array.from([3, 0, 9]);
  const text = await printCoverageAnswer({ intervalSeconds: 1_800, seeds, demand });
  const read = await parseCoverageAnswer(JSON.parse(text));
  t.equal(read.intervalSeconds, 1_800);
  t.same([...read.seeds], [...seeds]);
  t.same([...read.demand], [...demand]);
  const never = await printCoverageAnswer({ intervalSeconds: 1e9, seeds, demand });
  t.ok((await parseCoverageAnswer(JSON.parse(never))).intervalSeconds <= 86_400);
  await t.rejects(parseCoverageAnswer({ ...JSON.parse(text), ordinals: 2 }), { code: 'coverage-invalid' });
});
