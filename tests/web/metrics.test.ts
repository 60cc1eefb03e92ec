/** Metrics in the form that Prometheus reads. */

import t from 'tap';
import { Metrics, metricSeriesMax } from '../../web/metrics.ts';

t.test('counters, gauges and callbacks are told with help and type', async (t) => {
  const metrics = new Metrics();
  const uploaded = metrics.counter('narswarm_uploaded_bytes', 'Bytes sent,\nback\\slash');
  const peers = metrics.gauge('narswarm_connected_peers', 'Peers');
  metrics.callback('gauge', 'narswarm_held_files', 'Files', () => 7);
  metrics.callback('counter', 'narswarm_refused_files', 'Refused', () => [
    { labels: { reason: 'a "b"\n\\' }, value: 2 },
    { labels: { reason: 'c' }, value: Number.POSITIVE_INFINITY },
  ]);
  uploaded.add(5, { source: 'swarm' });
  uploaded.add(2, { source: 'swarm' });
  uploaded.add(1, { source: 'http' });
  peers.set(3);
  t.equal(
    metrics.text(),
    `# HELP narswarm_uploaded_bytes Bytes sent,\\nback\\\\slash
# TYPE narswarm_uploaded_bytes counter
narswarm_uploaded_bytes{source="swarm"} 7
narswarm_uploaded_bytes{source="http"} 1
# HELP narswarm_connected_peers Peers
# TYPE narswarm_connected_peers gauge
narswarm_connected_peers 3
# HELP narswarm_held_files Files
# TYPE narswarm_held_files gauge
narswarm_held_files 7
# HELP narswarm_refused_files Refused
# TYPE narswarm_refused_files counter
narswarm_refused_files{reason="a \\"b\\"\\n\\\\"} 2
narswarm_refused_files{reason="c"} +Inf
`,
  );
});

t.test('mistakes in names, values and labels are found where they are made', async (t) => {
  const metrics = new Metrics();
  for (const name of [
    'bytes',
    'narswarm_bytes',
    'narswarm_Held_files',
    'other_held_files',
    'narswarm_held files',
  ]) {
    t.throws(() => metrics.counter(name, ''), { message: /./ }, name);
  }
  const counter = metrics.counter('narswarm_test_events', '');
  t.throws(() => metrics.gauge('narswarm_test_events', ''), { message: /./ });
  t.throws(() => counter.add(-1), { message: /./ });
  t.throws(() => counter.add(Number.NaN), { message: /./ });
  t.throws(() => counter.add(1, { 'bad name': 'x' }), { message: /./ });
  for (let index = 0; index < metricSeriesMax; index += 1) counter.add(1, { peer: String(index) });
  t.throws(() => counter.add(1, { peer: 'one more' }), { message: /./ });
});

t.test('a callback that fails takes nothing else with it', async (t) => {
  const metrics = new Metrics();
  metrics.callback('gauge', 'narswarm_bad_things', '', () => {
    throw new Error('closed');
  });
  metrics.gauge('narswarm_good_things', '').set(1);
  t.match(metrics.text(), /^# HELP narswarm_good_things/);
});
