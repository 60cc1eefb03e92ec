import t from 'tap';
import { ingestLine } from '../../cli/ingest-line.ts';
import { ProgressLine } from '../../cli/progress-line.ts';

t.test('lines of the log go by above the progress, which is taken away at the end', async (t) => {
  let text = '';
  const line = new ProgressLine((more) => {
    text += more;
  });
  line.above('before\n');
  line.end();
  t.equal(text, 'before\n', 'nothing but the log while there is no progress');
  text = '';
  line.show('one');
  line.above('log\n');
  line.show('two');
  line.end();
  line.above('after\n');
  t.equal(text, '\r\x1b[Kone\r\x1b[Klog\none\r\x1b[Ktwo\r\x1b[Kafter\n');
});

t.test('the line of the ingest leaves out what nobody knows', async (t) => {
  const progress = { done: 10, refused: 1, bytesPerSecond: 2 * 2 ** 20 };
  t.equal(ingestLine(progress), 'read 10 narinfos, 1 refused, 2 MiB/s');
  t.equal(
    ingestLine({ ...progress, total: 100, secondsLeft: 90 }),
    'read 10 of 100 narinfos, 1 refused, 2 MiB/s, 1.5 min left',
  );
});
