/** A tenth of `npm run matrix`: the cells in which most can go wrong. Times are measured there, on a machine that does nothing else. */

import t from 'tap';
import { MatrixLab } from '../../scripts/matrix/lab.ts';
import { MatrixRun } from '../../scripts/matrix/run.ts';
import {
  type CatalogState,
  type Group,
  groupsOf,
  printCell,
  type SwarmState,
  type UpstreamState,
} from '../../scripts/matrix/states.ts';
import { nginxMissing } from '../helpers/nginx.ts';
import { nixMissing } from '../helpers/nix.ts';

const chosen: Readonly<Record<CatalogState, Partial<Record<UpstreamState, readonly SwarmState[]>>>> = {
  up: {
    good: ['none', 'good', 'silent', 'lying', 'flaky'],
    '404': ['good', 'flaky', 'lying'],
    '500': ['good', 'none'],
    hanging: ['good', 'none'],
    'cut-mid-body': ['good', 'none', 'flaky'],
    'wrong-bytes': ['lying', 'none', 'flaky', 'good'],
    '200-for-range': ['flaky', 'lying'],
    'wrong-length': ['flaky'],
    'redirect-loop': ['good', 'none'],
    'other-compression': ['flaky', 'none'],
  },
  down: { good: ['good'], '404': ['none'] },
  forged: { good: ['good'], '500': ['lying'] },
  stale: { good: ['good', 'silent'], '404': ['good'] },
};
/** The machine has other tests to run besides. */
const graceMs = 30_000;
/** Groups side by side: most of a cell is waiting. The longest one begins first. */
const lanes = 4;

t.test(
  'Nix gets its closure from whoever has it, or from its next substituter',
  { skip: nixMissing() || nginxMissing() },
  async (t) => {
    const lab = await MatrixLab.open();
    t.teardown(() => lab.close());
    const run = new MatrixRun(lab, graceMs);
    for (const upstream of ['good', '200-for-range'] as const)
      t.ok(await run.upstreamAlone(upstream), `upstream ${upstream} alone has it`);
    t.ok(await run.swarmAlone('good'), 'swarm good alone has it');
    // Who drops every connection may drop too many in a row: then its cells are to be as good as without it.
    await run.swarmAlone('flaky');
    const hangs = ({ upstream }: Group): number => (upstream === 'hanging' ? 0 : 1);
    const groups = groupsOf(
      ({ upstream, swarm, catalog }) => chosen[catalog][upstream]?.includes(swarm) === true,
    )
      .sort((a, b) => hangs(a) - hangs(b))
      .values();
    const lane = async (): Promise<void> => {
      for (const group of groups) {
        const { client, cells } = await run.group(group, () => undefined);
        for (const cell of cells) {
          t.equal(cell.outcome.failure, undefined, printCell(cell), { story: cell.story });
          t.same(cell.outcome.serverErrors, []);
        }
        t.equal(
          client,
          undefined,
          `the client of upstream ${group.upstream}, catalog ${group.catalog} is as at first`,
        );
      }
    };
    await Promise.all(Array.from({ length: lanes }, lane));
  },
);
