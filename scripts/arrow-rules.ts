/** Which folder may import which, and where third-party packages may be imported. The reasons are in ARCHITECTURE.md. */

/** Folders of the product in layers; a folder imports only from layers below its own, never from a sibling. */
export const layers: readonly (readonly string[])[] = [
  ['nar'],
  ['catalog', 'store', 'swarm', 'upstream', 'web'],
  ['parts'],
  ['seeder', 'mirror', 'client'],
  ['cli'],
];

/**
 * Folders within a folder, by the same rule. A file beside them that is named here has its place among them; any other is of use to all of
 * them, and imports none.
 */
export const innerLayers: Readonly<Record<string, readonly (readonly string[])[]>> = {
  client: [
    ['state'],
    ['asking', 'narinfo', 'race', 'share'],
    ['fetch'],
    ['ahead', 'report'],
    ['http'],
    ['main.ts'],
  ],
  swarm: [['address'], ['wire', 'tracker', 'dht', 'local'], ['torrent'], ['upload'], ['seed', 'fetch']],
};

/** `nar` is a function of its arguments: of Node's own modules it may have these. */
export const pureModules: ReadonlySet<string> = new Set(['node:crypto', 'node:buffer']);

/** What would make `nar` depend on a disk, network, clock or chance. */
export const impurePattern =
  /\bDate\.now\b|\bnew Date\(\)|\bMath\.random\b|\brandom(?:Bytes|UUID|Int)\b|\bset(?:Timeout|Interval|Immediate)\b|\bprocess\.|\bperformance\.|(?<![.\w])fetch\(/;

/**
 * Folders or files that may import a package. One module each, so that replacing it changes one module; where there
 * are more, the reason is given. A package that is not listed may be imported nowhere.
 */
export const packageModules: Readonly<Record<string, readonly string[]>> = {
  // web/ is our port to it.
  express: ['web'],
  // upstream/ is our port to it.
  undici: ['upstream'],
  'node-cron': ['parts/schedule.ts'],
  // In a process of its own.
  'bittorrent-dht': ['swarm/dht/dht-child.ts'],
  // What bittorrent-dht itself is built on.
  'k-rpc': ['swarm/dht/dht-child.ts'],
  // Three uses that share no code: a list of paths, NARs in bounded memory, and compressing a sample.
  'lzma-native': ['upstream/xz.ts', 'parts/xz.ts', 'cli/sample-cache/compress.ts'],
  // Describes what comes from outside, at whichever edge it comes in.
  zod: ['catalog', 'store', 'swarm', 'upstream', 'web', 'parts', 'seeder', 'mirror', 'client', 'cli'],
};
