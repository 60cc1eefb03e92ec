/** `narswarm sample-cache`. */

import { printPublicKey, publicKeyOf } from '../nar/signature.ts';
import { type CommandIo, defineCommand } from './command.ts';
import { summaryOf } from './commands.ts';
import { optional, withDefault } from './flags.ts';
import { makeSecretKey } from './key-files.ts';
import { readSecretKey } from './key-flags.ts';
import { type SampleCompression, sampleCompressions } from './sample-cache/compress.ts';
import {
  makeSampleCache,
  publicKeyFileName,
  type SampleCacheProgress,
  storePathsFileName,
} from './sample-cache/make.ts';
import { parseChoice, parseCount, parseSize, printDuration, printSize } from './units.ts';

/** A cache this large takes hours to make. */
const pathsMax = 10_000_000;

export const command = defineCommand({
  name: 'sample-cache',
  summary: summaryOf('sample-cache'),
  usage: 'DIR',
  positionals: { min: 1, max: 1 },
  flags: {
    paths: withDefault({
      value: 'N',
      help: 'how many store paths',
      parse: (text) => parseCount(text, 1, pathsMax),
      fallback: '100',
    }),
    median: optional({
      value: 'SIZE',
      help: 'make all paths to measure, with log-normal sizes: half of the NARs are smaller, before compression',
      parse: parseSize,
    }),
    compression: withDefault<SampleCompression>({
      value: sampleCompressions.join('|'),
      help: 'of the NAR files',
      parse: (text) => parseChoice(text, sampleCompressions),
      fallback: 'zstd',
    }),
    'secret-key': optional({
      value: 'FILE',
      help: 'signs the narinfos; without one a key is made and thrown away afterwards',
      parse: readSecretKey,
    }),
    'random-seed': withDefault({
      value: 'N',
      help: 'the same number gives the same paths',
      parse: (text) => parseCount(text, 0, 999_999_999),
      fallback: '1',
    }),
  },
  notes: [
    `The paths are the packages of the nearest node_modules, each referring to its dependencies; what is wanted beyond those is cut out of their files. DIR must be empty or missing. It becomes a binary cache that Nix can use as well; ${publicKeyFileName} and ${storePathsFileName} in it hold the key and the path that has all others in its closure.`,
  ],
  examples: [
    'sample-cache /tmp/cache',
    'sample-cache /tmp/cache --paths 1500 --median 33KiB --compression none',
  ],
  async run({ values, positionals: [dir = ''], io }) {
    const startMs = performance.now();
    const secretKey = values['secret-key'] ?? makeSecretKey('sample-cache-1');
    const made = await makeSampleCache({
      dir,
      paths: values.paths,
      medianBytes: values.median,
      compression: values.compression,
      secretKey,
      seed: values['random-seed'],
      signal: io.signal,
      onProgress: progressTo(io),
    });
    const took = printDuration(performance.now() - startMs);
    io.note(
      `${made.paths} paths, ${printSize(made.narBytes)} as ${printSize(made.fileBytes)} of NAR files, in ${took}\n`,
    );
    io.out(`root ${made.root}\npublic-key ${printPublicKey(publicKeyOf(secretKey))}\n`);
    return 0;
  },
});

/** A line that is written over on a terminal; elsewhere a line for each tenth. */
function progressTo(io: CommandIo): (progress: SampleCacheProgress) => void {
  let tenth = 0;
  return ({ paths, ofPaths, narBytes }) => {
    const line = `${paths} of ${ofPaths} paths, ${printSize(narBytes)}`;
    if (io.noteIsTerminal) io.note(`\r${line.padEnd(48)}${paths === ofPaths ? '\n' : ''}`);
    else if (Math.floor((paths * 10) / ofPaths) > tenth) {
      tenth = Math.floor((paths * 10) / ofPaths);
      io.note(`${line}\n`);
    }
  };
}
