/** Which upload rate holds when. Times are local, as cron's are. */
import t from 'tap';
import { lastDue } from '../../parts/schedule.ts';
import { rateAt } from '../../parts/upload-schedule.ts';

const mib = 1024 * 1024;
// Wednesday.
const at = (day: number, hour: number, minute = 0, second = 0) =>
  new Date(2026, 10, day, hour, minute, second);

t.test('a schedule was due when it says, to the second', async (t) => {
  const working = '0 8 * * 1-5';
  t.same(lastDue(working, at(25, 8)), at(25, 8));
  t.same(lastDue(working, at(25, 7, 59, 59)), at(24, 8));
  t.same(lastDue(working, at(23, 7)), at(20, 8), 'over a weekend');
  t.same(lastDue('*/10 * * * * *', at(25, 9, 0, 59)), at(25, 9, 0, 50), 'with seconds');
  t.same(lastDue('0 0 1 1 *', at(25, 9)), new Date(2026, 0, 1), 'almost a year ago');
  t.equal(lastDue('0 0 29 2 *', at(25, 9)), undefined, 'not in a common year');
  t.throws(() => lastDue('99 * * * *', at(25, 9)), { code: 'config-invalid' });
});

t.test('what was due last decides, also when the seeder was started in between', async (t) => {
  const schedules = [
    { cron: '0 8 * * 1-5', bytesPerSecond: 20 * mib },
    { cron: '0 18 * * 1-5', bytesPerSecond: undefined },
  ];
  t.equal(rateAt(schedules, mib, at(25, 9)), 20 * mib);
  t.equal(rateAt(schedules, mib, at(25, 20)), undefined);
  t.equal(rateAt(schedules, mib, at(22, 12)), undefined, 'on Sunday as on Friday evening');
  t.equal(rateAt([], mib, at(25, 9)), mib);
  t.equal(rateAt([{ cron: '0 0 29 2 *', bytesPerSecond: 1 }], mib, at(25, 9)), mib, 'one that was never due');
});
