import t from 'tap';
import { behindMaxBytes, ReaderPace } from '../../client/race/reader-pace.ts';

const mebibyte = 1024 * 1024;

t.test('a reader that falls behind is waited for until it has taken enough', async (t) => {
  const pace = new ReaderPace();
  pace.took(mebibyte, mebibyte);
  const releasedTo = behindMaxBytes + 3 * mebibyte;
  let waits = true;
  const waited = pace.follow(releasedTo, mebibyte).then((ms) => {
    waits = false;
    return ms;
  });
  pace.took(2 * mebibyte, releasedTo);
  await Promise.resolve();
  t.ok(waits, 'what it took is not enough');
  t.ok(pace.needs(2 * mebibyte + 1));
  t.notOk(pace.needs(2 * mebibyte), 'what it has taken is not kept for it');
  pace.took(3 * mebibyte, releasedTo);
  t.ok((await waited) >= 0);
  t.equal(await pace.follow(releasedTo, mebibyte), 0);
});

t.test('a slow reader is given up, and waited for again once it has come near by itself', async (t) => {
  const pace = new ReaderPace();
  pace.took(1, 1);
  const releasedTo = 2 * behindMaxBytes;
  t.ok((await pace.follow(releasedTo, mebibyte)) > 0);
  t.equal(await pace.follow(releasedTo, mebibyte), 0, 'not a second time');
  t.notOk(pace.needs(releasedTo), 'nothing is kept for it');
  pace.took(mebibyte, releasedTo);
  t.notOk(pace.needs(releasedTo), 'nor while it is far behind');
  pace.took(releasedTo, releasedTo);
  t.ok(pace.needs(releasedTo + 1));
});

t.test('a fetch that nobody reads waits for nobody', async (t) => {
  t.equal(await new ReaderPace().follow(10 * behindMaxBytes, mebibyte), 0);
});
