import t from 'tap';
import { BadSources } from '../../client/race/bad-sources.ts';
import { SourcePlan } from '../../client/race/source-plan.ts';
import { madeNar } from './made-nar.ts';

const limits = { attempts: 10, attemptWorthBytes: 100, attemptsPerSource: 3, attemptsOfLastSwarm: 6 };

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
      sources.failed(next.source, 0);
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
    sources.failed(next.source, 99);
  }
  t.equal(attempts, limits.attempts);
});

t.test('as long as much comes each time there is no end to it', async (t) => {
  const sources = plan([first]);
  for (let attempt = 0; attempt < limits.attempts * 10; attempt++) {
    t.equal(sources.next()?.source, first);
    sources.started();
    sources.failed(first, 100);
  }
});

t.test('a swarm that is all there is left is asked more often, anything else is not', async (t) => {
  const attemptsOf = (sources: SourcePlan<Source>): string[] => {
    const order: string[] = [];
    for (let next = sources.next(); next !== undefined; next = sources.next()) {
      sources.started();
      order.push(next.source.name);
      sources.failed(next.source, 0);
    }
    return order;
  };
  t.equal(attemptsOf(plan([swarm])).length, limits.attemptsOfLastSwarm);
  t.equal(attemptsOf(plan([first])).length, limits.attemptsPerSource);
  const both = attemptsOf(plan([swarm, first]));
  t.same(both.slice(0, 6), ['swarm', 'first', 'swarm', 'first', 'swarm', 'first']);
  t.same(both.slice(6), ['swarm', 'swarm', 'swarm']);
  const left = plan([swarm, first]);
  for (let attempt = 0; attempt < limits.attemptsPerSource; attempt++) left.failed(swarm, 0);
  t.equal(left.next()?.source, first, 'while there is somebody else it is not');
  t.equal(left.next(new Set([first]))?.source, swarm, 'unless that one runs, and needs help');
  left.gone(first);
  t.equal(left.next()?.source, swarm);
  t.notOk(left.has('http', new Set()));
});

t.test('who was late comes after those that were not, and is kept for when they fail', async (t) => {
  const sources = plan([swarm, first]);
  sources.failed(swarm, 1);
  t.equal(sources.next()?.source, first);
  sources.late(first);
  t.equal(sources.next()?.source, swarm, 'as good as one that gave something before it failed');
  for (let time = 0; time < 10; time++) sources.late(first);
  sources.failed(swarm, 0);
  sources.failed(swarm, 0);
  t.equal(sources.next()?.source, first);
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
  sources.failed(swarm, 0);
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
