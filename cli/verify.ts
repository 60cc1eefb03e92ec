/** `narswarm verify`. */

import { statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { torrentInfoMaxBytes } from '../catalog/torrentinfo.ts';
import { NarswarmError } from '../nar/errors.ts';
import { narInfoMaxBytes } from '../nar/narinfo.ts';
import { type CommandIo, defineCommand } from './command.ts';
import { summaryOf } from './commands.ts';
import { compressionOfBytes, compressionOfName } from './compression-of.ts';
import { anyText, many, optional } from './flags.ts';
import { readPublicKeys } from './key-flags.ts';
import { isPackInfo } from './pack-directory.ts';
import { trustedKeyFlag } from './program-flags.ts';
import { checkHead, checkSegment } from './verify/catalog-checks.ts';
import type { Check } from './verify/check.ts';
import { checkNarFile } from './verify/nar-file-checks.ts';
import { checkNarInfo } from './verify/narinfo-checks.ts';
import { checkPackDirectory, checkPackInfo } from './verify/pack-checks.ts';
import { checkTorrentInfo } from './verify/torrentinfo-checks.ts';

const labels = { holds: 'ok  ', fails: 'FAIL', unknown: '-   ' };

export const command = defineCommand({
  name: 'verify',
  summary: summaryOf('verify'),
  usage: 'FILE…',
  positionals: { min: 1, max: Number.POSITIVE_INFINITY },
  flags: {
    'trusted-key': { ...trustedKeyFlag, help: `${trustedKeyFlag.help}; for narinfos` },
    'catalog-key': many({
      value: 'KEY',
      help: 'public key of a catalog, NAME:BASE64 or a file of them; for torrentinfos, packs and heads',
      parse: readPublicKeys,
    }),
    files: optional({
      value: 'DIR',
      help: "a pack's files: a cache that has them, or the downloaded pack; by default beside its manifest",
      parse: anyText,
    }),
  },
  notes: [
    'Prints a line for each check: ok when it holds, FAIL when it does not, - when there is nothing to check it with. A narinfo or torrentinfo whose NAR file lies beside it, as in a cache directory, is checked against all of its bytes.',
    'FILE may be the manifest of a pack (.packinfo), whose files are hashed and the infohash made again, or the directory of a downloaded pack, in which every narinfo is checked with its NAR file.',
    'Exit status 1 when any check fails.',
  ],
  examples: [
    'verify cache/*.narinfo --trusted-key cache.example-1.public',
    'verify nar/1abc….nar.xz',
    'verify 1abc….packinfo 1def….pack --catalog-key seeder.example-1.public',
  ],
  async run({ values, positionals, io }) {
    const keys = { trusted: values['trusted-key'].flat(), catalog: values['catalog-key'].flat() };
    let failed = 0;
    for (const file of positionals) {
      const checks = await checkFile(file, keys, values.files, io.signal);
      failed += checks.filter((check) => check.result === 'fails').length;
      printChecks(file, checks, io);
    }
    return failed > 0 ? 1 : 0;
  },
});

type PublicKeys = ReturnType<typeof readPublicKeys>;

async function checkFile(
  file: string,
  keys: { trusted: PublicKeys; catalog: PublicKeys },
  packDir: string | undefined,
  signal: AbortSignal,
): Promise<Check[]> {
  if (isDirectory(file)) return checkPackDirectory(file, keys.trusted, signal);
  const start = await readStart(file);
  if (start instanceof NarswarmError) return [{ result: 'fails', what: 'file', detail: start.message }];
  switch (kindOf(file, start)) {
    case 'narinfo':
      return checkNarInfo(file, start, keys.trusted, signal);
    case 'torrentinfo':
      return checkTorrentInfo(file, start.subarray(0, torrentInfoMaxBytes + 1), keys.catalog, signal);
    case 'head':
      return checkHead(file, start, keys.catalog);
    case 'segment':
      return checkSegment(file, signal);
    case 'pack':
      return checkPackInfo(file, packDir, keys.catalog, signal);
    case 'nar':
      return checkNarFile(file, signal);
    case undefined:
      return [
        {
          result: 'fails',
          what: 'file',
          detail: 'is no narinfo, torrentinfo, pack, NAR file, head or segment',
        },
      ];
  }
}

function isDirectory(file: string): boolean {
  return statSync(file, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** The name decides; for other names, the first bytes. */
function kindOf(
  file: string,
  start: Buffer,
): 'narinfo' | 'torrentinfo' | 'pack' | 'nar' | 'head' | 'segment' | undefined {
  if (file.endsWith('.narinfo')) return 'narinfo';
  if (file.endsWith('.torrentinfo')) return 'torrentinfo';
  if (file.endsWith('.segment.zst')) return 'segment';
  if (isPackInfo(file, start)) return 'pack';
  if (compressionOfName(file) !== undefined || compressionOfBytes(start) !== undefined) return 'nar';
  const text = start.subarray(0, torrentInfoMaxBytes).toString('latin1');
  if (/^Format: narswarm-catalog-/m.test(text)) return 'head';
  if (/^StorePath: /m.test(text)) return 'narinfo';
  return /^InfoHash: /m.test(text) ? 'torrentinfo' : undefined;
}

/** As much as the largest narinfo has, and a byte more, so that a larger one is noticed. */
async function readStart(file: string): Promise<Buffer | NarswarmError> {
  try {
    await using handle = await open(file, 'r');
    const { size } = await handle.stat();
    const buffer = Buffer.alloc(Math.min(size, narInfoMaxBytes + 1));
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, 0);
    return buffer.subarray(0, bytesRead);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    return new NarswarmError('store-failed', `cannot be read: ${why}`, { cause });
  }
}

function printChecks(file: string, checks: readonly Check[], io: CommandIo): void {
  const width = Math.max(...checks.map(({ what }) => what.length));
  // What a file says of itself may hold anything; nothing of it is a command to the terminal.
  const clean = (text: string): string => text.replaceAll(/\p{Cc}/gu, '?');
  for (const { result, what, detail } of checks) {
    io.out(`${labels[result]}  ${clean(file)}  ${what.padEnd(width)}  ${clean(detail)}`.trimEnd());
    io.out('\n');
  }
}
