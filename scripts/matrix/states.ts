/** What upstream, swarm and catalog may be like: every combination is a cell of the matrix. */

export const upstreamStates = [
  'good',
  '404',
  '500',
  'hanging',
  'cut-mid-body',
  'wrong-bytes',
  '200-for-range',
  'slow',
  'wrong-length',
  'redirect-loop',
  'other-compression',
] as const;
export type UpstreamState = (typeof upstreamStates)[number];

export const swarmStates = ['none', 'good', 'silent', 'flaky', 'lying', 'slow', 'capped'] as const;
export type SwarmState = (typeof swarmStates)[number];

export const catalogStates = ['up', 'down', 'forged', 'stale'] as const;
export type CatalogState = (typeof catalogStates)[number];

export interface Cell {
  readonly upstream: UpstreamState;
  readonly swarm: SwarmState;
  readonly catalog: CatalogState;
}

export function printCell({ upstream, swarm, catalog }: Cell): string {
  return `upstream ${upstream}, swarm ${swarm}, catalog ${catalog}`;
}

/** A client process serves all cells of a group: its upstream and its catalog have one address and one state. */
export interface Group {
  readonly upstream: UpstreamState;
  readonly catalog: CatalogState;
  readonly swarms: readonly SwarmState[];
}

/** The cells that `wanted` allows. In each group another swarm comes first, so that each is met by clients that know nothing yet. */
export function groupsOf(wanted: (cell: Cell) => boolean): Group[] {
  const groups: Group[] = [];
  for (const upstream of upstreamStates) {
    for (const catalog of catalogStates) {
      const first = groups.length % swarmStates.length;
      const turned = [...swarmStates.slice(first), ...swarmStates.slice(0, first)];
      groups.push({
        upstream,
        catalog,
        swarms: turned.filter((swarm) => wanted({ upstream, swarm, catalog })),
      });
    }
  }
  return groups.filter(({ swarms }) => swarms.length > 0);
}
