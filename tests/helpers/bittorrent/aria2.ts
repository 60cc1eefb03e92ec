/** aria2, told what to do by its arguments and asked by JSON-RPC. */

import { z } from 'zod';
import { Child, freePort, missingProgram, printedVersion } from './child.ts';
import { type BittorrentProgram, downloadOf, nothingYet, type Progress } from './program.ts';

const count = z.string().transform(Number);
const answer = z.object({
  result: z.array(
    z.object({
      status: z.string(),
      totalLength: count,
      completedLength: count,
      uploadLength: count,
      /** What a magnet link led to: the first download is only that of the metadata. */
      followedBy: z.array(z.string()).optional(),
      bittorrent: z.object({ info: z.object({ name: z.string() }).optional() }).optional(),
      errorMessage: z.string().optional(),
    }),
  ),
});

export const aria2: BittorrentProgram = {
  name: 'aria2',
  missing: () => missingProgram('aria2c'),
  version: () => printedVersion('aria2c', ['--version']),
  async start({ what, dir, home, address }) {
    const port = await freePort('127.0.0.1');
    const args = [
      ...['--no-conf', `--dir=${dir}`, '--file-allocation=none', '--seed-ratio=0.0'],
      ...[
        '--enable-dht=false',
        '--enable-dht6=false',
        '--enable-peer-exchange=false',
        '--bt-enable-lpd=false',
      ],
      ...['--disable-ipv6=true', `--interface=${address}`, '--listen-port=20000-60000'],
      ...['--enable-rpc', `--rpc-listen-port=${port}`],
      what,
    ];
    const child = new Child('aria2c', args, home);
    const ask = async (method: string, params: unknown[] = []): Promise<z.infer<typeof answer>['result']> => {
      const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params });
      const response = await fetch(`http://127.0.0.1:${port}/jsonrpc`, { method: 'POST', body });
      return answer.parse(await response.json()).result;
    };
    await child.answers(() => ask('aria2.tellActive'));
    const progress = async (): Promise<Progress> => {
      child.expectAlive();
      const all = [...(await ask('aria2.tellActive')), ...(await ask('aria2.tellStopped', [0, 10]))];
      const failed = all.find(({ status }) => status === 'error');
      if (failed !== undefined) throw new Error(`aria2: ${failed.errorMessage}`);
      const own = all.find(({ followedBy, bittorrent }) => !followedBy && bittorrent?.info !== undefined);
      if (own === undefined) return nothingYet;
      const { totalLength, completedLength, uploadLength } = own;
      return {
        done: totalLength > 0 && completedLength === totalLength,
        downloadedBytes: completedLength,
        uploadedBytes: uploadLength,
      };
    };
    return downloadOf(progress, () => child.end());
  },
};
