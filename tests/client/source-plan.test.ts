import t from 'tap';
import { BadSources } from '../../client/bad-sources.ts';
import { SourcePlan } from '../../client/source-plan.ts';
import { madeNar } from './made-nar.ts';

const limits = { attempts: 10, attemptsPerSource: 3 };

t.test(
  'a swarm that fails is followed by HTTP, and HTTP that fails by the next cache and the swarm again',
  async (t) => {
    const plan = new SourcePlan(['swarm', 'first', 'second'], ['catalog'], limits);
    const order: string[] = [];
    for (let next = plan.next(); next !== undefined; next = plan.next()) {
      order.push(next.source);
      plan.failed(next.source, false);
    }
    t.same(order.slice(0, 6), ['swarm', 'first', 'second', 'swarm', 'first', 'second']);
    t.same(order.slice(6).sort(), ['catalog', 'first', 'second', 'swarm']);
  },
);

t.test('a source that gives bytes and breaks is asked again, but not for ever', async (t) => {
  const plan = new SourcePlan(['only'], [], limits);
  let attempts = 0;
  for (let next = plan.next(); next !== undefined; next = plan.next()) {
    attempts++;
    plan.failed(next.source, true);
  }
  t.equal(attempts, limits.attempts);
});

t.test('a source that does not have it is not asked again', async (t) => {
  const plan = new SourcePlan(['a', 'b'], [], limits);
  plan.gone('a');
  t.equal(plan.next()?.source, 'b');
  plan.gone('b');
  t.equal(plan.next(), undefined);
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
