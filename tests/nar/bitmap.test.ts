import fc from 'fast-check';
import t from 'tap';
import { Bitmap } from '../../nar/bitmap.ts';

t.test('it is the set of the numbers that were put in and not taken out', async (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 200 }),
      fc.array(fc.tuple(fc.boolean(), fc.nat(199)), { maxLength: 100 }),
      (length, steps) => {
        const bitmap = new Bitmap(length);
        const set = new Set<number>();
        for (const [adds, number] of steps) {
          if (number >= length) continue;
          if (adds) {
            bitmap.add(number);
            set.add(number);
          } else {
            bitmap.delete(number);
            set.delete(number);
          }
        }
        const sorted = [...set].sort((a, b) => a - b);
        const again = new Bitmap(length, Uint8Array.from(bitmap.bytes));
        return (
          bitmap.size === set.size &&
          again.size === set.size &&
          [...bitmap].join() === sorted.join() &&
          sorted.every((number) => again.has(number))
        );
      },
    ),
  );
  t.throws(() => new Bitmap(8).add(8), RangeError);
  t.throws(() => new Bitmap(9, new Uint8Array(1)), RangeError);
});
