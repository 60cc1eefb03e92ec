import t from 'tap';
import { BadSources } from '../../client/bad-sources.ts';
import { SourcePlan } from '../../client/source-plan.ts';
import { madeNar } from './made-nar.ts';

const limits = { attempts: 10, attemptsPerSource: 3 };

const swarm = { kind: 'swarm', name: 'swarm' } as const;
const [first, second, catalog] = ['first', 'second', 'catalog'].map(
  (name) => ({ kind: 'http', name }) as const,
);
if (first === undefined || second === undefined || catalog === undefined) throw new Error('unreachable');
type Source = typeof swarm | typeof first;

function plan(sources: Source[], lastResorts: Source[] = []): SourcePlan<Source> {
  return new SourcePlan<Source>(sources, lastResorts, limits);
}

t.test(
  'a swarm that fails is followed by HTTP, and HTTP that fails by the next cache and the swarm again',
  async (t) => {
    const sources = plan([swarm, first, second], [catalog]);
    const order: string[] = [];
    for (let next = sources.next(); next !== undefined; next = sources.next()) {
      sources.started();
      order.push(next.source.name);
      sources.failed(next.source, false);
    }
    t.same(order.slice(0, 6), ['swarm', 'first', 'second', 'swarm', 'first', 'second']);
    t.same(order.slice(6).sort(), ['catalog', 'first', 'second', 'swarm']);
  },
);

t.test('a source that gives bytes and breaks is asked again, but not for ever', async (t) => {
  const sources = plan([first]);
  let attempts = 0;
  for (let next = sources.next(); next !== undefined; next = sources.next()) {
    sources.started();
    attempts++;
    sources.failed(next.source, true);
  }
  t.equal(attempts, limits.attempts);
});

t.test('a source that does not have it is not asked again', async (t) => {
  const sources = plan([first, second]);
  sources.gone(first);
  t.equal(sources.next()?.source, second);
  sources.gone(second);
  t.equal(sources.next(), undefined);
});

t.test('beside one that runs another kind is preferred, unless it has failed more often', async (t) => {
  const sources = plan([first, second, swarm]);
  t.equal(sources.next(new Set([first]))?.source, swarm);
  sources.failed(swarm, false);
  t.equal(sources.next(new Set([first]))?.source, second);
  t.equal(sources.next(new Set([first, second, swarm])), undefined);
});

t.test('what becomes known later goes first, and a last resort last', async (t) => {
  const sources = plan([first]);
  sources.addLastResorts([catalog]);
  sources.add([swarm]);
  t.equal(sources.first('swarm'), swarm);
  t.equal(sources.next()?.source, swarm);
  sources.gone(swarm);
  t.equal(sources.first('http'), first);
  sources.gone(first);
  t.equal(sources.next()?.source, catalog);
});

t.test('a source of wrong bytes is left out for a while, for that file only', async (t) => {
  let now = 0;
  const bad = new BadSources(() => now, 100);
  const [one, two] = ['one', 'two'].map((name) => madeNar({ name, sizeBytes: 10 }).fileHash);
  if (one === undefined || two === undefined) throw new Error('unreachable');
  bad.note(one, 'a');
  t.ok(bad.has(one, 'a'));
  t.notOk(bad.has(two, 'a'));
  t.notOk(bad.has(one, 'b'));
  now = 100;
  t.notOk(bad.has(one, 'a'));
});
