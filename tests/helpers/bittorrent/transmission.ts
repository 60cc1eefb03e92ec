/** transmission-cli: its output says when it is done, and what it writes at its end says how much it gave. */

import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Child, missingProgram, printedVersion } from './child.ts';
import { type BittorrentProgram, nothingYet, type Progress } from './program.ts';

/** Nothing but TCP to the peers that the tracker names. */
const settings = {
  'dht-enabled': false,
  'lpd-enabled': false,
  'pex-enabled': false,
  'utp-enabled': false,
  'port-forwarding-enabled': false,
  'peer-port-random-on-start': true,
  // Plain connections first: its own default offers nothing but encryption, and it takes 20 s and more to try without.
  encryption: 0,
};

export const transmission: BittorrentProgram = {
  name: 'transmission',
  missing: (host) =>
    missingProgram('transmission-cli') ??
    (host.startsWith('127.')
      ? 'transmission takes no peer on 127.0.0.1, and there are no network namespaces here'
      : undefined),
  version: () => printedVersion('transmission-cli', ['--version']),
  async start({ what, dir, home, address }) {
    const config = join(home, 'config');
    await mkdir(config);
    const own = { ...settings, 'bind-address-ipv4': address };
    await writeFile(join(config, 'settings.json'), JSON.stringify(own));
    // Now and then it ends by itself when it has the metadata of a magnet link: it takes its own short pause for a stop. Started again,
    // it goes on from what it has written.
    const start = (): Child => new Child('transmission-cli', ['-w', dir, '-g', config, '-M', what], home);
    let child = start();
    let startsLeft = what.startsWith('magnet:') ? 2 : 0;
    let done = false;
    return {
      async progress() {
        if (child.endedWith === 0 && startsLeft-- > 0) child = start();
        child.expectAlive();
        done ||= child.output.includes('Seeding');
        return { ...nothingYet, done };
      },
      async stop() {
        await child.end();
        return { ...(await readFigures(join(config, 'resume'))), done };
      },
    };
  },
};

/** From the bencoded file of a torrent. */
async function readFigures(directory: string): Promise<Omit<Progress, 'done'>> {
  const [name] = await readdir(directory);
  if (name === undefined) return { uploadedBytes: 0 };
  const text = await readFile(join(directory, name), 'latin1');
  const figure = (key: string): number =>
    Number(new RegExp(`${key.length}:${key}i(\\d+)e`).exec(text)?.[1] ?? 0);
  return { downloadedBytes: figure('downloaded'), uploadedBytes: figure('uploaded') };
}
