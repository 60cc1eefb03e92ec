/** Standard BitTorrent programs download from a running seeder, which is their tracker as well. */

import { randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseTorrentInfo } from '../../catalog/torrentinfo.ts';
import { narFileName } from '../../nar/compression.ts';
import { parseNarInfo } from '../../nar/narinfo.ts';
import { bittorrentPrograms, downloadWith } from '../helpers/bittorrent-programs.ts';
import { NixLab, nixMissing } from '../helpers/nix.ts';
import { enterOwnNetwork } from '../helpers/own-network.ts';
import { startProgram, untilIngested } from '../helpers/program.ts';

const ownAddress = enterOwnNetwork(import.meta.filename);
const host = ownAddress ?? '127.0.0.1';
// Not before: tap writes a plan when a process ends that has loaded it.
const { default: t } = await import('tap');

const contentBytes = 3_000_000;

t.jobs = 4;

t.test('NAR files made by Nix are downloaded whole from a seeder', { skip: nixMissing() }, async (t) => {
  const lab = await NixLab.open();
  t.teardown(() => lab.close());
  const cacheDir = join(lab.dir, 'cache');
  await mkdir(cacheDir);
  // Added, not built: inside the namespace Nix has no right to the sandbox of a build.
  const content = join(lab.dir, 'content');
  await mkdir(content);
  await writeFile(join(content, 'data'), randomBytes(contentBytes));
  const path = await lab.addPath(content, 'content');
  await lab.copyToCache(path, cacheDir, 'xz');
  const seeder = await startProgram([
    'seeder',
    ...['--data', join(lab.dir, 'seeder'), '--source', `file://${cacheDir}`, '--trusted-key', lab.publicKey],
    ...['--http', `${host}:0`, '--peers', `${host}:0`],
  ]);
  t.teardown(() => seeder.stop());
  await untilIngested(seeder, 1);

  const storeHash = path.slice('/nix/store/'.length).slice(0, 32);
  const { fileHash, url } = parseNarInfo(await (await fetch(`${seeder.url}/${storeHash}.narinfo`)).text());
  t.ok(fileHash);
  if (fileHash === undefined) return;
  const expected = await readFile(join(cacheDir, url));
  const info = parseTorrentInfo(await (await fetch(`${seeder.url}/${fileHash}.torrentinfo`)).text());
  const torrent = Buffer.from(await (await fetch(`${seeder.url}/${info.infoHash}.torrent`)).arrayBuffer());
  const magnet = `magnet:?xt=urn:btih:${info.infoHash}&tr=${encodeURIComponent(seeder.tracker ?? '')}`;
  const [peerHost = '', peerPort = ''] = seeder.peers?.split(':') ?? [];
  t.jobs = 4;
  for (const program of bittorrentPrograms(ownAddress)) {
    for (const [kind, from] of Object.entries({ torrent: { torrent }, magnet: { magnet } })) {
      const skip = program.missing() ?? false;
      t.test(`${program.name}, from ${kind}`, { skip, buffered: true }, async (t) => {
        const name = narFileName(fileHash, 'xz');
        const peer = { host: peerHost, port: Number(peerPort) };
        const got = await downloadWith(program, {
          home: join(lab.dir, `${program.name}-${kind}`),
          host,
          from,
          name,
          peer,
        });
        t.ok(got.equals(expected), 'byte for byte');
      });
    }
  }
});
