/** rtorrent as a daemon, asked by XML-RPC over SCGI on a Unix socket. */

import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Child, freePort, missingProgram, printedVersion } from './child.ts';
import { type BittorrentProgram, downloadOf, nothingYet } from './program.ts';

export const rtorrent: BittorrentProgram = {
  name: 'rtorrent',
  missing: () => missingProgram('rtorrent'),
  version: () => printedVersion('rtorrent', ['-h']),
  async start({ what, dir, home, address }) {
    const socketPath = join(home, 'scgi');
    const port = await freePort(address);
    await mkdir(join(home, 'session'));
    const file = join(home, 'rtorrent.rc');
    await writeFile(file, settings({ dir, home, address, port, socketPath }));
    const child = new Child('rtorrent', ['-n', '-o', `import=${file}`], home);
    await child.answers(() => call(socketPath, 'system.client_version', []));
    await call(socketPath, 'load.start', ['', what]);
    return downloadOf(
      async () => {
        child.expectAlive();
        const text = await call(socketPath, 'd.multicall2', [
          ...['', 'main', 'd.is_meta=', 'd.complete=', 'd.down.total=', 'd.up.total='],
        ]);
        const [isMeta, complete, downloadedBytes, uploadedBytes] = numbers(text);
        if (isMeta !== 0 || downloadedBytes === undefined || uploadedBytes === undefined) return nothingYet;
        return { done: complete === 1, downloadedBytes, uploadedBytes };
      },
      () => child.end(),
    );
  },
};

function settings(options: {
  dir: string;
  home: string;
  address: string;
  port: number;
  socketPath: string;
}): string {
  const { dir, home, address, port, socketPath } = options;
  return [
    'system.daemon.set = true',
    `network.scgi.open_local = ${socketPath}`,
    `session.path.set = ${join(home, 'session')}`,
    `directory.default.set = ${dir}`,
    `network.bind_address.set = ${address}`,
    `network.port_range.set = ${port}-${port}`,
    'network.port_random.set = no',
    'dht.mode.set = disable',
    'protocol.pex.set = no',
    'trackers.use_udp.set = no',
    '',
  ].join('\n');
}

/** The answer as XML; throws what it says when the call failed. */
async function call(socketPath: string, method: string, args: readonly string[]): Promise<string> {
  const params = args.map((arg) => `<param><value><string>${escapeXml(arg)}</string></value></param>`);
  const body = `<?xml version="1.0"?><methodCall><methodName>${method}</methodName><params>${params.join('')}</params></methodCall>`;
  const headers = `CONTENT_LENGTH\0${Buffer.byteLength(body)}\0SCGI\x001\0`;
  const socket = connect(socketPath);
  socket.end(`${headers.length}:${headers},${body}`);
  let text = '';
  socket.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  await once(socket, 'close');
  if (text === '' || text.includes('<fault>')) throw new Error(`rtorrent: ${method}: ${text}`);
  return text;
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}

function numbers(xml: string): number[] {
  return [...xml.matchAll(/<i\d>(-?\d+)<\/i\d>/g)].map(([, digits]) => Number(digits));
}
