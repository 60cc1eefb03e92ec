/** What is noted as given out is there after a kill at any moment; what was not written whole is not. */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import t, { type Test } from 'tap';
import { GivenJournal, type GivenRecord } from '../../client/state/given-journal.ts';
import type { StoreHash } from '../../nar/store-path.ts';

function journalPath(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'narswarm-journal-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  return join(dir, 'given');
}

function record(n: number, text = `StorePath: ${n}\n`): GivenRecord {
  const storeHash = String(n).padStart(32, '0') as StoreHash;
  const narUrl = `nar/${n}.nar`;
  return {
    storeHash,
    urlKey: narUrl,
    origin: 'http://a b\n\u00e9',
    narUrl,
    text,
    used: n,
    named: n % 2 === 0,
  };
}

/** What a journal opened anew has. */
function recordsIn(path: string): (GivenRecord | undefined)[] {
  const journal = new GivenJournal(path);
  try {
    return journal.noted.map((each) => journal.read(each));
  } finally {
    journal.close();
  }
}

const turns = [
  [record(1), record(2, ''), record(3, 'one\ntwo \u00e9 \u{1f4e6}\n')],
  [record(4, 'x'.repeat(300_000))],
  [record(5), record(6)],
];

function written(path: string): { bytes: number }[] {
  const journal = new GivenJournal(path);
  const ends = turns.map((turn) => {
    const places = journal.append(turn);
    t.same(
      places.map((place) => journal.read(place)),
      turn,
    );
    return { bytes: journal.bytes };
  });
  journal.close();
  return ends;
}

t.test('what was noted is read again, in order, and can be gone on with', (t) => {
  const path = journalPath(t);
  written(path);
  t.same(recordsIn(path), turns.flat());
  const journal = new GivenJournal(path);
  journal.append([record(7)]);
  t.equal(journal.bytes, statSync(path).size);
  journal.close();
  t.same(recordsIn(path), [...turns.flat(), record(7)]);
  t.end();
});

t.test('cut off anywhere, it has all turns that were written whole, and is gone on with from there', (t) => {
  const path = journalPath(t);
  const ends = written(path);
  const whole = readFileSync(path);
  const around = ends.flatMap(({ bytes }) => [bytes - 1, bytes, bytes + 1]);
  const cuts = [...Array(500).keys(), ...around].filter((cut) => cut <= whole.length);
  const wrong = cuts.filter((cut) => {
    const have = turns.slice(0, ends.filter(({ bytes }) => bytes <= cut).length).flat();
    return [Buffer.alloc(0), Buffer.alloc(100), Buffer.from('0000000f 12345678\nx')].some((tail) => {
      writeFileSync(path, Buffer.concat([whole.subarray(0, cut), tail]));
      const journal = new GivenJournal(path);
      journal.append([record(8)]);
      journal.close();
      return !isDeepStrictEqual(recordsIn(path), [...have, record(8)]);
    });
  });
  t.strictSame(wrong, []);
  t.end();
});

t.test('a byte that is another one ends it there', (t) => {
  const path = journalPath(t);
  const ends = written(path);
  const whole = readFileSync(path);
  for (const at of [
    0,
    20,
    30,
    60,
    (ends[0]?.bytes ?? 0) + 1,
    (ends[0]?.bytes ?? 0) + 200_000,
    whole.length - 1,
  ]) {
    const damaged = Buffer.from(whole);
    damaged[at] = (damaged[at] ?? 0) ^ 1;
    writeFileSync(path, damaged);
    const have = turns.slice(0, ends.filter(({ bytes }) => bytes <= at).length).flat();
    t.same(recordsIn(path), at < 17 ? [] : have);
  }
  t.end();
});

t.test('emptied, it has nothing, and takes more', (t) => {
  const path = journalPath(t);
  written(path);
  const journal = new GivenJournal(path);
  journal.clear();
  t.equal(journal.bytes, statSync(path).size);
  journal.append([record(9)]);
  journal.close();
  t.same(recordsIn(path), [record(9)]);
  t.end();
});

/** Of this process; false where it cannot be set. */
function limitFileBytes(most: string): boolean {
  return spawnSync('prlimit', ['--pid', `${process.pid}`, `--fsize=${most}:`]).status === 0;
}

const skip = limitFileBytes('unlimited') ? false : 'prlimit is missing';

t.test('emptied on a disk that has no room, it takes what comes when there is some', { skip }, (t) => {
  const path = journalPath(t);
  written(path);
  const journal = new GivenJournal(path);
  limitFileBytes('0');
  try {
    journal.clear();
  } catch (error) {
    t.match(error, { code: 'store-failed' });
  } finally {
    limitFileBytes('unlimited');
  }
  journal.append([record(9)]);
  journal.close();
  t.same(recordsIn(path).at(-1), record(9));
  t.end();
});

t.test('a file that cannot be opened is said to be so', (t) => {
  t.throws(() => new GivenJournal('/dev/null/given'), { code: 'store-failed' });
  t.end();
});
