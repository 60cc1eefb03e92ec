import t from 'tap';
import { checkSelections, orderOf, parseSelection } from '../../mirror/selection.ts';

const path = '/nix/store/0000000000000000000000000000000a-name=1';

t.test('rules are read with and without a share', async (t) => {
  t.match(parseSelection('channel:nixos-26.05=60%'), {
    rule: { kind: 'channel', name: 'nixos-26.05' },
    share: 0.6,
    text: 'channel:nixos-26.05',
  });
  t.match(parseSelection(`closure:${path}`), {
    rule: { kind: 'closure', storePath: path },
    share: undefined,
  });
  t.match(parseSelection(`closure:${path}=2.5%`), {
    rule: { kind: 'closure', storePath: path },
    share: 0.025,
  });
  t.match(parseSelection('paths:/etc/kept=paths'), { rule: { kind: 'paths', file: '/etc/kept=paths' } });
  for (const kind of ['popular', 'rare', 'all']) t.match(parseSelection(kind), { rule: { kind } });
  for (const bad of ['', 'most', 'channel:', 'closure:/tmp/x', 'all=0%', 'all=101%', 'rare=x%', '=5%']) {
    t.throws(() => parseSelection(bad), { code: 'config-invalid' }, bad);
  }
});

t.test('shares of more than the quota are refused', async (t) => {
  checkSelections(['rare=70%', 'popular=30%', 'all'].map(parseSelection));
  checkSelections(Array.from({ length: 10 }, () => parseSelection('rare=10%')));
  t.throws(() => checkSelections(['rare=70%', 'all=31%'].map(parseSelection)), { code: 'config-invalid' });
});

t.test('the order of wanting', async (t) => {
  const seeds = [3, 0, 2, 0, 5];
  const demand = [0, 9, 1, 0, 4];
  const held = new Set([0]);
  const about = (salt: number) => ({
    seedsOf: (item: number) => seeds[item] ?? 0,
    demandOf: (item: number) => demand[item] ?? 0,
    isHeld: (item: number) => held.has(item),
    salt,
  });
  t.same([...orderOf('all', 5, about(1))], [4, 3, 2, 1, 0], 'the newest first');
  t.same([...orderOf('popular', 5, about(1))], [1, 4, 2], 'what nobody asks for is not popular');
  const rare = [...orderOf('rare', 5, about(1))];
  t.same(new Set(rare.slice(0, 2)), new Set([1, 3]), 'what has no other seed first');
  t.same(rare.slice(2), [0, 2, 4], 'a held one before another that has one seed fewer');
  const firsts = new Set(Array.from({ length: 20 }, (_, salt) => orderOf('rare', 5, about(salt))[0]));
  t.same(firsts, new Set([1, 3]), 'mirrors do not all begin with the same');
});
