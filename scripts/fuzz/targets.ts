/** Everything that is fuzzed, by name. */

import { catalogTargets } from './catalog-targets.ts';
import { nixTargets } from './nix-targets.ts';
import { packTargets } from './pack-targets.ts';
import { swarmTargets } from './swarm-targets.ts';
import type { Target } from './target.ts';
import { textTargets } from './text-targets.ts';
import { wireTargets } from './wire-targets.ts';

export const targets: Readonly<Record<string, Target>> = {
  ...wireTargets,
  ...swarmTargets,
  ...nixTargets,
  ...packTargets,
  ...textTargets,
  ...catalogTargets,
};
