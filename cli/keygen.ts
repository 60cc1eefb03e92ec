/** `narswarm keygen`: a key pair in Nix's own format. */

import { mkdir } from 'node:fs/promises';
import { printPublicKey, publicKeyOf } from '../nar/signature.ts';
import { defineCommand } from './command.ts';
import { summaryOf } from './commands.ts';
import { anyText, withDefault } from './flags.ts';
import { makeSecretKey, parseKeyName, writeKeyFiles } from './key-files.ts';

export const command = defineCommand({
  name: 'keygen',
  summary: summaryOf('keygen'),
  usage: 'NAME',
  positionals: { min: 1, max: 1 },
  flags: {
    out: withDefault({
      value: 'DIR',
      help: 'where the files go; made if it is missing',
      parse: anyText,
      fallback: '.',
    }),
  },
  notes: [
    'Writes NAME.secret, readable by its owner alone, and NAME.public. Existing files are never overwritten. Both are in the format of `nix-store --generate-binary-cache-key`, and Nix takes them as well.',
  ],
  examples: ['keygen cache.example-1 --out /etc/narswarm'],
  async run({ values, positionals: [name = ''], io }) {
    const key = makeSecretKey(parseKeyName(name));
    await mkdir(values.out, { recursive: true });
    const { secretFile, publicFile } = await writeKeyFiles(values.out, key);
    io.note(`wrote ${secretFile} and ${publicFile}\n`);
    io.out(`${printPublicKey(publicKeyOf(key))}\n`);
    return 0;
  },
});
