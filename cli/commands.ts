/** All subcommands. Each is loaded when it is asked for, so that `keygen` does not wait for a BitTorrent engine. */

import type { Command } from './command.ts';
import { keepYoungGenerationSmall } from './young-generation.ts';

export interface CommandEntry {
  readonly name: string;
  readonly summary: string;
  load(): Promise<{ command: Command }>;
}

export const commands: readonly CommandEntry[] = [
  {
    name: 'up',
    summary: 'seeder and client on this machine, to see them work',
    load: () => import('./up.ts'),
  },
  {
    name: 'seeder',
    summary: 'turn a binary cache into torrents and seed them',
    load() {
      keepYoungGenerationSmall();
      return import('./seeder.ts');
    },
  },
  {
    name: 'mirror',
    summary: 'keep a part of a cache alive within a quota',
    load() {
      keepYoungGenerationSmall();
      return import('./mirror.ts');
    },
  },
  {
    name: 'client',
    summary: 'a substituter for Nix that fetches from the swarm',
    load: () => import('./client.ts'),
  },
  {
    name: 'catalog',
    summary: 'follow the catalog of a seeder or mirror, and say what is in it',
    load: () => import('./catalog.ts'),
  },
  {
    name: 'revoke',
    summary: 'take a NAR file that was found wrong out of a catalog, for good',
    load: () => import('./revoke.ts'),
  },
  { name: 'keygen', summary: 'make a key pair', load: () => import('./keygen.ts') },
  {
    name: 'sample-cache',
    summary: 'make a signed binary cache of real content found on this machine',
    load: () => import('./sample-cache.ts'),
  },
  {
    name: 'torrent',
    summary: 'print the canonical torrent of a NAR file or pack',
    load: () => import('./torrent.ts'),
  },
  {
    name: 'verify',
    summary: 'say which checks narinfos, torrentinfos, packs, NAR files and catalogs pass',
    load: () => import('./verify.ts'),
  },
  {
    name: 'report',
    summary: 'say how many seeds each NAR file of a catalog has',
    load: () => import('./report.ts'),
  },
  {
    name: 'doctor',
    summary: "say what is wrong with this machine's setup, and what leaves the machine",
    load: () => import('./doctor.ts'),
  },
  {
    name: 'why',
    summary: 'say how a store path came through the client, and why so',
    load: () => import('./why.ts'),
  },
  { name: 'status', summary: 'say what a running program does', load: () => import('./status.ts') },
];

/** Said in the program's help and in the command's own. */
export function summaryOf(name: string): string {
  return commands.find((entry) => entry.name === name)?.summary ?? '';
}
