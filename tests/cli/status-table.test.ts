import t from 'tap';
import { statusTable } from '../../cli/status-table.ts';

t.test('the summary comes first, then figures, and lists as columns with names', async (t) => {
  const text = statusTable({
    summary: ['3 NARs: 3 from peers.', 'Nothing is shared.'],
    role: 'client',
    bytes: { swarm: 2048 },
    sources: [
      { source: 'swarm', nars: 1_000, usedBytes: 2048 },
      { source: 'https://one.example', usedBytes: 0, savedMs: 1_500 },
    ],
    names: ['a', 'b'],
    none: [],
  });
  t.equal(
    text,
    `3 NARs: 3 from peers.
Nothing is shared.

role  client
bytes
  swarm  2 KiB
sources
    source               nars   usedBytes  savedMs
    swarm                1,000  2 KiB      –
    https://one.example  –      0 B        1.5 s
names
    a
    b
`,
  );
});

t.test('nothing that a program says moves a terminal', async (t) => {
  const attack = '\u001b[2J\u0007';
  const text = statusTable({
    summary: [attack],
    [attack]: attack,
    list: [{ [attack]: attack }],
    texts: [attack],
  });
  t.notMatch(text, /(?!\n)\p{Cc}/u);
});
