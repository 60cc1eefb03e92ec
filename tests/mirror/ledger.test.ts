import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { Ledger } from '../../mirror/ledger.ts';

t.test(
  'neither quota nor the floor of free disk is ever passed, whatever comes, grows, goes and is given up',
  async () => {
    const anyStep = fc.oneof(
      fc.record({ kind: fc.constant('reserve' as const), bytes: fc.integer({ min: 1, max: 300 }) }),
      fc.record({
        kind: fc.constantFrom('write' as const, 'keep' as const, 'release' as const, 'evict' as const),
        at: fc.nat(9),
        part: fc.double({ min: 0, max: 1, noNaN: true }),
      }),
      // Somebody else fills the disk, or makes room.
      fc.record({ kind: fc.constant('others' as const), bytes: fc.nat(800) }),
    );
    fc.assert(
      fc.property(
        fc.nat(1_000),
        fc.nat(300),
        fc.array(anyStep, { maxLength: 60 }),
        (quotaBytes, minFreeBytes, steps) => {
          const diskBytes = 1_000;
          let othersBytes = 0;
          const ledger = new Ledger({ quotaBytes, minFreeBytes });
          const growing: { name: string; bytes: number; written: number }[] = [];
          const held: number[] = [];
          const onDisk = (): number =>
            held.reduce((a, b) => a + b, 0) + growing.reduce((a, { written }) => a + written, 0);
          const promised = (): number => growing.reduce((a, { bytes, written }) => a + bytes - written, 0);
          const free = (): number => diskBytes - othersBytes - onDisk();
          let names = 0;
          for (const step of steps) {
            if (step.kind === 'reserve') {
              const name = `${names++}`;
              if (ledger.reserve(name, step.bytes, free()) === 0) {
                growing.push({ name, bytes: step.bytes, written: 0 });
                assert.ok(free() - promised() >= minFreeBytes, 'what was promised fits above the floor');
              }
            } else if (step.kind === 'others') othersBytes = step.bytes;
            else if (step.kind === 'evict') {
              const [bytes] = held.splice(step.at % Math.max(1, held.length), 1);
              if (bytes !== undefined) ledger.removeHeld(bytes);
            } else {
              const each = growing[step.at % Math.max(1, growing.length)];
              if (each === undefined) continue;
              if (step.kind === 'write') {
                each.written = Math.max(each.written, Math.floor(each.bytes * step.part));
                ledger.wrote(each.name, each.written);
              } else {
                growing.splice(growing.indexOf(each), 1);
                if (step.kind === 'release') ledger.release(each.name);
                else {
                  held.push(each.bytes);
                  ledger.keep(each.name);
                }
              }
            }
            assert.ok(onDisk() <= quotaBytes, 'the quota holds');
            assert.ok(ledger.usedBytes <= quotaBytes);
            assert.equal(ledger.usedBytes, onDisk() + promised(), 'the account is right');
          }
        },
      ),
    );
  },
);

t.test('what was not reserved is not written', async (t) => {
  const ledger = new Ledger({ quotaBytes: 100, minFreeBytes: 0 });
  t.equal(ledger.reserve('a', 60, 1_000), 0);
  t.equal(ledger.reserve('b', 60, 1_000), 20, 'so much is missing');
  t.throws(() => ledger.wrote('b', 1), RangeError);
  t.throws(() => ledger.wrote('a', 61), RangeError);
  t.throws(() => ledger.reserve('a', 1, 1_000), RangeError);
  ledger.keep('a');
  ledger.setOther(50);
  t.equal(ledger.overBytes, 10, 'a database that grows counts');
  t.equal(ledger.narBytesMax, 50);
});
