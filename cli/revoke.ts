/** `narswarm revoke`. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Catalog, openCatalog } from '../catalog/catalog.ts';
import { frameRecord } from '../catalog/record.ts';
import { isNarswarmError, NarswarmError } from '../nar/errors.ts';
import { parseSha256, type Sha256 } from '../nar/hash.ts';
import { parseStorePath, storeHashOf } from '../nar/store-path.ts';
import { defineCommand, usageError } from './command.ts';
import { summaryOf } from './commands.ts';
import { anyText, required, withDefault } from './flags.ts';
import { defaultDataDir } from './program-flags.ts';

export const command = defineCommand({
  name: 'revoke',
  summary: summaryOf('revoke'),
  usage: 'FILEHASH|STOREPATH',
  positionals: { min: 1, max: 1 },
  flags: {
    reason: required({
      value: 'TEXT',
      help: 'one line that everybody who follows gets to see',
      parse: anyText,
    }),
    data: withDefault({
      value: 'DIR',
      help: 'data directory of the seeder',
      parse: anyText,
      fallback: defaultDataDir('seeder', process.env),
    }),
  },
  notes: [
    'May be run beside the seeder, which stops serving the NAR file at once and publishes the revocation within seconds; without a running seeder it is published by the next one. It cannot be taken back: the NAR file is never accepted again.',
    'A store path stands for the NAR files of its narinfos. Those that the catalog never had are revoked by their FileHash alone.',
  ],
  examples: ["revoke sha256:1abc… --reason 'holds the NAR of another package' --data /var/lib/narswarm"],
  async run({ values: { data, reason }, positionals: [what = ''], io }) {
    const path = join(data, 'catalog.sqlite');
    if (!existsSync(path)) throw usageError(`there is no catalog in ${data}; write --data DIR`);
    const time = Math.floor(Date.now() / 1000);
    const catalog = openCatalog(path);
    try {
      for (const fileHash of fileHashesOf(catalog, what)) {
        checkReason({ fileHash, time, reason });
        const isNew = catalog.revoke(fileHash, { time, reason });
        io.out(`${fileHash} ${isNew ? 'revoked' : 'was revoked before'}\n`);
      }
    } finally {
      catalog.close();
    }
    return 0;
  },
});

function fileHashesOf(catalog: Catalog, text: string): Sha256[] {
  if (!text.startsWith('/')) {
    try {
      return [parseSha256(text)];
    } catch (cause) {
      throw new NarswarmError(
        'config-invalid',
        `${JSON.stringify(text)} is neither a FileHash nor a store path`,
        {
          cause,
        },
      );
    }
  }
  const fileHashes = catalog.log.fileHashesOf(storeHashOf(parseStorePath(text)));
  if (fileHashes.length === 0) throw new NarswarmError('not-held', `${text} is not in the catalog`);
  return fileHashes;
}

/** Throws config-invalid for a reason that no reader would take. */
function checkReason(revocation: { fileHash: Sha256; time: number; reason: string }): void {
  try {
    frameRecord({ kind: 'revocation', ...revocation });
  } catch (error) {
    if (!isNarswarmError(error, 'record-corrupt')) throw error;
    throw new NarswarmError('config-invalid', '--reason is one line of at most 1 KiB', { cause: error });
  }
}
