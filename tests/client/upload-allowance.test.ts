/** When a client that shares does not: beyond its quota, by its schedule, and where the connection is metered. */

import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import type { Client } from '../../client/main.ts';
import { askMetered } from '../../client/share/metered.ts';
import { encodeRequests, encodeSimple } from '../../swarm/wire/wire-encode.ts';
import { blocksOf, RawPeer } from '../swarm/seed-fixture.ts';
import { fetchNar, Lab, statusOf, until } from './lab.ts';
import { madeNar } from './made-nar.ts';

const nar = madeNar({ name: 'allowed', sizeBytes: 3_000_000 });
const other = madeNar({ name: 'allowed-too', sizeBytes: 3_000_000 });

interface ShareStatus {
  paused: string | false;
  monthQuotaBytes: number | null;
  metered: boolean | string;
  uploadedBytes: number;
  announcedTorrents: number;
}

const shareOf = (client: Client): ShareStatus => statusOf(client).share as unknown as ShareStatus;
const trafficOf = (client: Client) =>
  client.status().traffic as {
    uploadedBytes: number;
    monthUploadedBytes: number;
    downloadedBytes: number;
    ratio?: number;
  };
const portOf = (client: Client): number => Number(client.peersAddress?.split(':').at(-1));

/** True if somebody who connects is not turned away at once. */
function admits(client: Client): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(portOf(client), '127.0.0.1');
    socket.on('error', () => resolve(false));
    socket.on('close', () => resolve(false));
    // Encrypted handshakes are not taken: an answer comes only to this one.
    socket.write(Buffer.concat([Buffer.from('\x13BitTorrent protocol'), Buffer.alloc(8)]));
    socket.write(Buffer.concat([Buffer.from(nar.torrent.infoHash, 'hex'), Buffer.alloc(20, 0x61)]));
    socket.once('data', () => {
      resolve(true);
      socket.destroy();
    });
  });
}

/** Asks for all of it and takes what comes. */
async function download(client: Client): Promise<RawPeer> {
  const peer = RawPeer.open(portOf(client), nar.torrent);
  peer.send(encodeSimple('interested'));
  await peer.hears('unchoke');
  peer.send(encodeRequests(blocksOf(nar.torrent)));
  return peer;
}

t.test(
  'when the quota of the month is used up nothing is shared until the next, across restarts',
  async (t) => {
    const lab = await Lab.open(t);
    const catalog = await lab.catalog([nar]);
    let now = new Date(2026, 10, 26, 12).getTime();
    const clock = (): number => now;
    const config = { noUpstream: true, share: 'on', uploadQuotaBytes: 1_000_000, clock } as const;
    const client = await lab.client([], [catalog], config);
    await fetchNar(client, nar);
    await until(() => shareOf(client).announcedTorrents === 1);
    t.match(shareOf(client), { paused: false, monthQuotaBytes: 1_000_000 });
    const peer = await download(client);
    await until(() => shareOf(client).paused === 'quota');
    const { uploadedBytes } = shareOf(client);
    t.ok(uploadedBytes >= 1_000_000 && uploadedBytes < nar.bytes.length, `${uploadedBytes} bytes left`);
    await peer.destroy();
    t.notOk(await admits(client));
    await until(() => catalog.announces.at(-1)?.get('event') === 'stopped');
    await client.close();

    const again = await lab.client([], [catalog], config);
    t.equal(shareOf(again).paused, 'quota');
    t.ok(trafficOf(again).monthUploadedBytes >= uploadedBytes);
    t.ok((trafficOf(again).ratio ?? 0) > 0.3, 'given for each byte taken');
    t.notOk(await admits(again));
    await again.close();
    t.equal(catalog.announces.at(-1)?.get('event'), 'stopped', 'it was not announced again');

    now = new Date(2026, 11, 1).getTime();
    const next = await lab.client([], [catalog], config);
    t.match(trafficOf(next), { monthUploadedBytes: 0, uploadedBytes: trafficOf(next).uploadedBytes });
    t.equal(shareOf(next).paused, false);
    await until(() => catalog.announces.at(-1)?.get('event') === 'started');
    t.ok(await admits(next));
  },
);

t.test('at a scheduled rate of 0 nothing is shared', async (t) => {
  const lab = await Lab.open(t);
  const catalog = await lab.catalog([nar, other]);
  const schedules = [{ cron: '* * * * *', bytesPerSecond: 0 }];
  const client = await lab.client([], [catalog], { noUpstream: true, share: 'on', schedules });
  await fetchNar(client, nar);
  await until(() => statusOf(client).cache.files === 1);
  t.equal(shareOf(client).paused, 'schedule');
  // Takes longer than an announce of the first would.
  await fetchNar(client, other);
  t.notOk(await admits(client));
  t.same(catalog.announces, []);
  const wrong = [{ cron: 'at night', bytesPerSecond: 0 }];
  await t.rejects(lab.client([], [catalog], { share: 'on', schedules: wrong, dataDir: `${lab.dir}/other` }), {
    code: 'config-invalid',
  });
});

t.test('sharing pauses while the connection is metered', async (t) => {
  const lab = await Lab.open(t);
  const catalog = await lab.catalog([nar]);
  const bin = join(lab.dir, 'bin');
  const says = join(lab.dir, 'says');
  await mkdir(bin);
  await writeFile(join(bin, 'busctl'), `#!/bin/sh\necho "$*" > '${says}.asked'\ncat '${says}'\n`);
  await chmod(join(bin, 'busctl'), 0o755);
  await writeFile(says, 'u 1\n');
  const metered = { everyMs: 20, env: { PATH: `${bin}:${process.env.PATH}` } };
  const config = { noUpstream: true, share: 'on', onMetered: 'pause', metered } as const;
  const client = await lab.client([], [catalog], config);
  await fetchNar(client, nar);
  await until(() => statusOf(client).cache.files === 1);
  t.match(shareOf(client), { paused: 'metered', metered: true });
  t.notOk(await admits(client));
  t.same(catalog.announces, []);

  await writeFile(says, 'u 2\n');
  await until(() => shareOf(client).paused === false);
  t.ok(await admits(client));
  await until(() => shareOf(client).announcedTorrents === 1);

  await writeFile(says, 'u 3\n');
  await until(() => shareOf(client).paused === 'metered');
  await until(() => catalog.announces.at(-1)?.get('event') === 'stopped');
  t.notOk(await admits(client), 'a guess counts');

  await writeFile(says, 'Failed to get property\n');
  await until(() => shareOf(client).metered === 'unknown');
  t.equal(shareOf(client).paused, false, 'nobody says: it is taken not to be');
});

t.test('a machine without NetworkManager is not metered', async (t) => {
  const dir = t.testdir({});
  t.equal(await askMetered({ PATH: dir }), undefined);
  for (const [says, metered] of [
    ['u 0', false],
    ['u 1', true],
    ['u 2', false],
    ['u 3', true],
    ['u 4', false],
    ['b true', undefined],
  ] as const) {
    await writeFile(join(dir, 'busctl'), `#!/bin/sh\necho '${says}'\n`);
    await chmod(join(dir, 'busctl'), 0o755);
    t.equal(await askMetered({ PATH: `${dir}:/bin:/usr/bin` }), metered, says);
  }
  await writeFile(join(dir, 'busctl'), '#!/bin/sh\necho u 1\nexit 1\n');
  t.equal(await askMetered({ PATH: `${dir}:/bin:/usr/bin` }), undefined, 'a failed question is no answer');
});
