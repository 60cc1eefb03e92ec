/** Deluge's daemon, run from its Python modules, and a small client of its RPC that prints the figures. */

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { Child, freePort, missingPythonModule, printedVersion } from './child.ts';
import { type BittorrentProgram, downloadOf, nothingYet } from './program.ts';

const python = '/usr/bin/python3';
/** What /usr/bin/deluged does. Debian's package of that name is not needed: it would also start a service. */
const daemon = 'from deluge.core.daemon_entry import start_daemon; start_daemon()';

const figures = z.object({
  done: z.boolean(),
  downloadedBytes: z.number(),
  uploadedBytes: z.number(),
});

export const deluge: BittorrentProgram = {
  name: 'deluge',
  missing: () =>
    missingPythonModule('deluge.core.daemon_entry, rencode', 'deluge-common') ??
    missingPythonModule('libtorrent', 'python3-libtorrent'),
  version: () => printedVersion(python, ['-c', 'import deluge.common; print(deluge.common.get_version())']),
  async start({ what, dir, home, address }) {
    const [rpcPort, port] = [await freePort('127.0.0.1'), await freePort(address)];
    const config = join(home, 'config');
    await mkdir(config);
    await writeFile(join(config, 'auth'), 'localclient:interoperation:10\n');
    const settings = {
      ...{ dht: false, lsd: false, upnp: false, natpmp: false, utpex: false, new_release_check: false },
      ...{ random_port: false, listen_ports: [port, port], listen_interface: address },
      ...{ random_outgoing_ports: true, outgoing_interface: address },
      ...{ download_location: dir, daemon_port: rpcPort },
    };
    const versions = JSON.stringify({ file: 1, format: 1 });
    await writeFile(join(config, 'core.conf'), `${versions}${JSON.stringify(settings)}`);
    const args = ['-c', daemon, '-d', '-c', config, '-u', '127.0.0.1', '-p', String(rpcPort)];
    const child = new Child(python, args, home);
    const client = new Child(
      python,
      [join(import.meta.dirname, 'deluge-client.py'), String(rpcPort), what],
      home,
    );
    return downloadOf(
      async () => {
        child.expectAlive();
        const line = client.lastJsonLine();
        return line === undefined ? nothingYet : figures.parse(line);
      },
      async () => {
        await client.end();
        await child.end();
      },
    );
  },
};
