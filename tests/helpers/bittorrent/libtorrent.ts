/** libtorrent with its own defaults, through its Python bindings. */

import { join } from 'node:path';
import { z } from 'zod';
import { Child, missingPythonModule, printedVersion } from './child.ts';
import { type BittorrentProgram, downloadOf, nothingYet } from './program.ts';

const python = '/usr/bin/python3';

const figures = z.object({
  done: z.boolean(),
  downloadedBytes: z.number(),
  uploadedBytes: z.number(),
});

export const libtorrent: BittorrentProgram = {
  name: 'libtorrent',
  missing: () => missingPythonModule('libtorrent', 'python3-libtorrent'),
  version: () => printedVersion(python, ['-c', 'import libtorrent; print(libtorrent.version)']),
  async start({ what, dir, home, address }) {
    const script = join(import.meta.dirname, 'libtorrent-get.py');
    const child = new Child(python, [script, what, dir, address], home);
    return downloadOf(
      async () => {
        const line = child.lastJsonLine();
        return line === undefined ? nothingYet : figures.parse(line);
      },
      () => child.end(),
    );
  },
};
