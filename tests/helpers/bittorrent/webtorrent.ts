/** webtorrent with its own defaults, as a process. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { Child } from './child.ts';
import { type BittorrentProgram, downloadOf, nothingYet } from './program.ts';

const figures = z.object({
  done: z.boolean(),
  downloadedBytes: z.number(),
  uploadedBytes: z.number(),
});
const description = z.object({ version: z.string() });

export const webtorrent: BittorrentProgram = {
  name: 'webtorrent',
  missing: () => undefined,
  version() {
    const file = fileURLToPath(import.meta.resolve('webtorrent/package.json'));
    return description.parse(JSON.parse(readFileSync(file, 'utf8'))).version;
  },
  // It cannot be bound to an address; to peers on this machine it comes from theirs.
  async start({ what, dir, home }) {
    const script = join(import.meta.dirname, 'webtorrent-get.mjs');
    const child = new Child(process.execPath, [script, what, dir], home);
    return downloadOf(
      async () => {
        const line = child.lastJsonLine();
        return line === undefined ? nothingYet : figures.parse(line);
      },
      () => child.end(),
    );
  },
};
