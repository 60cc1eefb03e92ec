/** qBittorrent without a window, asked over the API of its web page. */

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { Child, freePort, missingProgram, printedVersion } from './child.ts';
import { type BittorrentProgram, downloadOf, type Job, nothingYet } from './program.ts';

const answer = z.array(
  z.object({
    state: z.string(),
    progress: z.number(),
    downloaded: z.number(),
    uploaded: z.number(),
  }),
);

const seedingStates = ['uploading', 'stalledUP', 'forcedUP'];

export const qbittorrent: BittorrentProgram = {
  name: 'qBittorrent',
  missing: () => missingProgram('qbittorrent-nox'),
  version: () => printedVersion('qbittorrent-nox', ['--version']),
  async start({ what, dir, home, address }) {
    const { child, ask } = await startQbittorrent({ dir, home, address });
    const form = new FormData();
    if (what.startsWith('magnet:')) form.set('urls', what);
    else form.set('torrents', new Blob([await readFile(what)]), 'it.torrent');
    await ask('torrents/add', form);
    return downloadOf(
      async () => {
        child.expectAlive();
        const [torrent] = answer.parse(JSON.parse(await ask('torrents/info')));
        if (torrent === undefined) return nothingYet;
        const { state, progress, downloaded, uploaded } = torrent;
        if (state === 'error') throw new Error(`qBittorrent: ${child.output}`);
        return {
          done: progress === 1 && seedingStates.includes(state),
          downloadedBytes: downloaded,
          uploadedBytes: uploaded,
        };
      },
      () => child.end(),
    );
  },
};

/** Asks its web API. Throws what it answers when that is no success. */
export type AskQbittorrent = (path: string, body?: FormData) => Promise<string>;

/** Without a torrent. What it downloads goes into `dir`, what it writes itself into `home`. */
export async function startQbittorrent({ dir, home, address }: Omit<Job, 'what'>) {
  const [webPort, port] = [await freePort('127.0.0.1'), await freePort(address)];
  const config = join(home, 'qBittorrent/config');
  await mkdir(config, { recursive: true });
  await writeFile(join(config, 'qBittorrent.conf'), settings({ dir, address, port, webPort }));
  const child = new Child('qbittorrent-nox', [`--profile=${home}`], home);
  const api = `http://127.0.0.1:${webPort}/api/v2`;
  const ask: AskQbittorrent = async (path, body) => {
    const response = await fetch(`${api}/${path}`, body === undefined ? {} : { method: 'POST', body });
    const text = await response.text();
    if (!response.ok) throw new Error(`qBittorrent: ${response.status} ${text}`);
    return text;
  };
  await child.answers(() => ask('app/version'));
  return { child, ask, port };
}

function settings(options: { dir: string; address: string; port: number; webPort: number }): string {
  const { dir, address, port, webPort } = options;
  return [
    '[LegalNotice]',
    'Accepted=true',
    '[Network]',
    'PortForwardingEnabled=false',
    '[BitTorrent]',
    'Session\\DHTEnabled=false',
    'Session\\LSDEnabled=false',
    'Session\\PeXEnabled=false',
    'Session\\BTProtocol=TCP',
    'Session\\Interface=lo',
    `Session\\InterfaceAddress=${address}`,
    `Session\\Port=${port}`,
    `Session\\DefaultSavePath=${dir}`,
    '[Preferences]',
    'General\\UseRandomPort=false',
    'WebUI\\Address=127.0.0.1',
    `WebUI\\Port=${webPort}`,
    'WebUI\\LocalHostAuth=false',
    'WebUI\\UseUPnP=false',
    '',
  ].join('\n');
}
