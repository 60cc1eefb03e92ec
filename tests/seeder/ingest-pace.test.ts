import t from 'tap';
import { PaceMeter, paceMinMs, paceWindowMs } from '../../seeder/ingest-pace.ts';

t.test('nothing is said of the time left without a total, a pace, or a while to see one', async (t) => {
  const meter = new PaceMeter(0);
  t.same(meter.pace(0, 0, 0, 100), { bytesPerSecond: 0, secondsLeft: undefined });
  t.match(meter.pace(paceMinMs - 1, 10, 0, 100), { secondsLeft: undefined });
  t.match(meter.pace(paceMinMs, 10, 0, undefined), { secondsLeft: undefined });
  t.match(meter.pace(paceMinMs, 0, 0, 100), { secondsLeft: undefined });
  t.match(meter.pace(paceMinMs, 10, 4000, 100), { bytesPerSecond: 2000, secondsLeft: 18 });
});

t.test(
  'the pace is that of late: unchanged narinfos at the beginning promise nothing for new ones',
  async (t) => {
    const meter = new PaceMeter(0);
    for (let second = 1; second <= 10; second++) meter.note(second * 1000, second * 5000, 0);
    t.equal(meter.pace(10_000, 50_000, 0, 60_000).secondsLeft, 2);
    for (let second = 1; second <= 40; second++) {
      meter.note(10_000 + second * 1000, 50_000 + second, second * 1_000_000);
    }
    const pace = meter.pace(50_000, 50_040, 40_000_000, 50_100);
    t.same(pace, { bytesPerSecond: 1_000_000, secondsLeft: 60 });
  },
);

t.test('when nothing is finished any more, that shows', async (t) => {
  const meter = new PaceMeter(0);
  for (let ms = 0; ms <= 10_000; ms += 100) meter.note(ms, ms / 100, ms * 10);
  const { bytesPerSecond } = meter.pace(10_000 + 2 * paceWindowMs, 100, 100_000, 200);
  t.equal(bytesPerSecond, 0);
});

t.test('more than there were at first is not a negative time', async (t) => {
  const meter = new PaceMeter(0);
  t.equal(meter.pace(10_000, 120, 0, 100).secondsLeft, 0);
});
