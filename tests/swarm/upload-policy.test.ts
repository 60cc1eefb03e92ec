/** The upload policy over virtual time, and what is remembered of it. */
import fc from 'fast-check';
import t from 'tap';
import { infoHashFromDigest } from '../../nar/hash.ts';
import { UploadLedger } from '../../swarm/upload/upload-ledger.ts';
import { uploadLimits } from '../../swarm/upload/upload-limits.ts';
import {
  neverUploaded,
  nextUploadRecord,
  type UploadFacts,
  type UploadRecord,
  type UploadRules,
} from '../../swarm/upload/upload-policy.ts';

const mib = 1024 * 1024;
const minute = 60_000;
const rules: UploadRules = {
  initialCopies: 3,
  minSeeds: 2,
  lonelyAfterMs: 10 * minute,
  neverCappedBytes: 256 * 1024,
  graceCopies: 0.25,
};
const facts: UploadFacts = { sizeBytes: mib, sentBytes: 0, piecesMissing: false, otherSeeds: 0, nowMs: 0 };

function after(record: UploadRecord, ...steps: Partial<UploadFacts>[]): UploadRecord {
  return steps.reduce((now, step) => nextUploadRecord(now, { ...facts, ...step }, rules), record);
}

const capped = after(neverUploaded, { sentBytes: 3 * mib });

t.test('a copy that leaves twice by accident does not hold back what never left', async (t) => {
  const missing = after(neverUploaded, { sentBytes: 3 * mib, piecesMissing: true });
  t.match(missing, { state: 'swarming' });
  t.match(after(missing, { sentBytes: 1 }), { state: 'capped' }, 'nothing is missing any more');
  const most = rules.graceCopies * mib;
  t.match(after(missing, { sentBytes: most - 1, piecesMissing: true }), { state: 'swarming' });
  t.match(after(missing, { sentBytes: most, piecesMissing: true }), { state: 'capped' }, 'within bounds');
});

t.test(
  'a pack is capped only while it has enough other seeds: who fetches a part of it seeds nothing',
  async (t) => {
    const pack = { inParts: true, sentBytes: 100 * mib };
    t.match(after(neverUploaded, pack), { state: 'swarming' });
    t.match(after(neverUploaded, { ...pack, otherSeeds: undefined }), { state: 'swarming' });
    const seeded = { ...pack, otherSeeds: rules.minSeeds };
    t.match(after(neverUploaded, seeded), { state: 'capped' });
    t.match(after(neverUploaded, seeded, { inParts: true, otherSeeds: rules.minSeeds - 1 }), {
      state: 'swarming',
    });
  },
);

t.test('a torrent is free until its first copies have left, counted in bytes', async (t) => {
  const almost = after(neverUploaded, { sentBytes: 3 * mib - 1 });
  t.equal(almost.state, 'swarming');
  t.match(after(almost, { sentBytes: 1 }), { state: 'capped', uploadedBytes: 3 * mib, roundBytes: 3 * mib });
});

t.test('a small NAR file is never capped, and no longer capped when the limit is raised', async (t) => {
  const sizeBytes = 256 * 1024 - 1;
  t.equal(after(neverUploaded, { sizeBytes, sentBytes: 1000 * mib }).state, 'swarming');
  t.equal(after(capped, { sizeBytes }).state, 'swarming');
});

t.test('a capped torrent is free again when it had too few other seeds for long enough', async (t) => {
  const lonely = after(capped, { nowMs: 5 * minute, otherSeeds: 1 });
  t.match(after(lonely, { nowMs: 15 * minute - 1, otherSeeds: 1 }), { state: 'capped' });
  const free = after(lonely, { nowMs: 15 * minute, otherSeeds: 1 });
  t.match(free, { state: 'swarming', roundBytes: 0, lonelySinceMs: undefined });
  t.equal(
    after(free, { sentBytes: 3 * mib - 1, nowMs: 16 * minute }).state,
    'swarming',
    'for as many copies again',
  );
  t.equal(after(free, { sentBytes: 3 * mib, nowMs: 16 * minute }).state, 'capped');
});

t.test('seeds that come back in between begin the wait anew', async (t) => {
  const steps = [
    { nowMs: 0 },
    { nowMs: 9 * minute },
    { nowMs: 9.5 * minute, otherSeeds: 2 },
    { nowMs: 10 * minute },
    { nowMs: 19.9 * minute },
  ];
  t.equal(after(capped, ...steps).state, 'capped');
  t.equal(after(capped, ...steps, { nowMs: 20 * minute }).state, 'swarming');
});

t.test('what the tracker cannot know yet changes nothing', async (t) => {
  const lonely = after(capped, { nowMs: 5 * minute });
  t.equal(after(lonely, { nowMs: 500 * minute, otherSeeds: undefined }), lonely);
});

t.test('a clock that was set back does not prolong the wait', async (t) => {
  const lonely = after(capped, { nowMs: 1000 * minute }, { nowMs: 0 });
  t.equal(after(lonely, { nowMs: 10 * minute }).state, 'swarming');
});

t.test('there are no other moves, and bytes are never lost', async () => {
  const step = fc.record({
    sentBytes: fc.integer({ min: 0, max: 4 * mib }),
    piecesMissing: fc.boolean(),
    otherSeeds: fc.option(fc.integer({ min: 0, max: 4 }), { nil: undefined }),
    waitMs: fc.integer({ min: 0, max: 20 * minute }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      let record = neverUploaded;
      let sent = 0;
      let nowMs = 0;
      for (const { waitMs, ...seen } of steps) {
        nowMs += waitMs;
        sent += seen.sentBytes;
        const next = after(record, { ...seen, nowMs });
        if (record.state === 'swarming' && next.state === 'capped' && next.roundBytes < 3 * mib) return false;
        if (record.state === 'capped' && next.state === 'swarming' && (seen.otherSeeds ?? 9) >= 2)
          return false;
        record = next;
      }
      return record.uploadedBytes === sent;
    }),
  );
});

t.test(
  'of a million torrents only those used lately are in memory, and nothing unsaved is dropped',
  async (t) => {
    const rows = new Map<string, UploadRecord>();
    let loads = 0;
    const records = {
      load: (infoHash: string) => {
        loads++;
        return rows.get(infoHash);
      },
      save: (changed: readonly (readonly [string, UploadRecord])[]) => {
        for (const [infoHash, record] of changed) rows.set(infoHash, record);
        return true;
      },
    };
    const ledger = new UploadLedger(records, { ...uploadLimits, rememberedTorrents: 10, flushRecords: 8 });
    const infoHash = (n: number) => infoHashFromDigest(Buffer.alloc(20, n));
    for (let n = 0; n < 15; n++) ledger.set(infoHash(n), { ...neverUploaded, uploadedBytes: n });
    t.equal(ledger.size, 15, 'those that are not written yet stay');
    ledger.flush();
    t.equal(rows.size, 8, 'a bounded number at a time');
    ledger.flush();
    t.equal(rows.size, 15);
    ledger.get(infoHash(14));
    t.equal(loads, 0);
    for (let n = 100; n < 200; n++) ledger.get(infoHash(n));
    t.equal(ledger.size, 10);
    t.equal(ledger.get(infoHash(3)).uploadedBytes, 3, 'what was let go is read again');
    t.equal(rows.size, 15, 'and what was only looked at has no row');
  },
);

t.test(
  'what cannot be written because somebody else is writing is written later, at the end at the latest',
  async (t) => {
    const written: number[] = [];
    let free = false;
    const records = {
      load: () => undefined,
      save: (changed: readonly (readonly [string, UploadRecord])[], { wait }: { wait: boolean }) => {
        if (!free && !wait) return false;
        for (const [, { uploadedBytes }] of changed) written.push(uploadedBytes);
        return true;
      },
    };
    const ledger = new UploadLedger(records, uploadLimits);
    const set = (n: number) =>
      ledger.set(infoHashFromDigest(Buffer.alloc(20, n)), { ...neverUploaded, uploadedBytes: n });
    set(1);
    ledger.flush();
    t.same(written, []);
    free = true;
    ledger.flush();
    t.same(written, [1]);
    free = false;
    set(2);
    ledger.flush(true);
    t.same(written, [1, 2]);
  },
);
