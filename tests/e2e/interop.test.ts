/** Standard BitTorrent programs download from a running seeder, which is their tracker as well. */

import { randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseTorrentInfo } from '../../catalog/torrentinfo.ts';
import { narFileName } from '../../nar/compression.ts';
import type { Sha256 } from '../../nar/hash.ts';
import { parseNarInfo } from '../../nar/narinfo.ts';
import { bittorrentPrograms, downloadWith } from '../helpers/bittorrent-programs.ts';
import { NixLab, nixMissing } from '../helpers/nix.ts';
import { enterOwnNetwork } from '../helpers/own-network.ts';
import { type Program, startProgram, untilIngested } from '../helpers/program.ts';

const ownAddress = enterOwnNetwork(import.meta.filename);
const host = ownAddress ?? '127.0.0.1';
// Not before: tap writes a plan when a process ends that has loaded it.
const { default: t } = await import('tap');

const contentBytes = 1_500_000;

interface Published {
  fileHash: Sha256;
  /** What the cache holds. */
  bytes: Buffer;
  torrent: Buffer;
  magnet: string;
}

t.jobs = 4;

t.test('NAR files made by Nix are downloaded whole from a seeder', { skip: nixMissing() }, async (t) => {
  const lab = await NixLab.open();
  t.teardown(() => lab.close());
  const cacheDir = join(lab.dir, 'cache');
  await mkdir(cacheDir);
  // Each download has a NAR file of its own, so that it comes from the seeder and from no other program.
  const downloads = bittorrentPrograms(ownAddress).flatMap((program) =>
    (['torrent', 'magnet'] as const).map((kind) => ({ program, kind, name: `${program.name}-${kind}` })),
  );
  const paths = new Map<string, string>();
  for (const { name } of downloads) {
    // Added, not built: inside the namespace Nix has no right to the sandbox of a build.
    const content = join(lab.dir, name);
    await mkdir(content);
    await writeFile(join(content, 'data'), randomBytes(contentBytes));
    const path = await lab.addPath(content, name);
    await lab.copyToCache(path, cacheDir, 'xz');
    paths.set(name, path);
  }
  const seeder = await startProgram([
    'seeder',
    ...['--data', join(lab.dir, 'seeder'), '--source', `file://${cacheDir}`, '--trusted-key', lab.publicKey],
    ...['--http', `${host}:0`, '--peers', `${host}:0`],
  ]);
  t.teardown(() => seeder.stop());
  await untilIngested(seeder, downloads.length);

  const [peerHost = '', peerPort = ''] = seeder.peers?.split(':') ?? [];
  const peer = { host: peerHost, port: Number(peerPort) };
  t.jobs = 4;
  for (const { program, kind, name } of downloads) {
    const skip = program.missing() ?? false;
    t.test(`${program.name}, from ${kind}`, { skip, buffered: true }, async (t) => {
      const { fileHash, bytes, torrent, magnet } = await published(seeder, cacheDir, paths.get(name) ?? '');
      const got = await downloadWith(program, {
        home: join(lab.dir, `home-${name}`),
        host,
        from: kind === 'magnet' ? { magnet } : { torrent },
        name: narFileName(fileHash, 'xz'),
        peer,
      });
      t.ok(got.equals(bytes), 'byte for byte');
    });
  }
});

async function published(seeder: Program, cacheDir: string, path: string): Promise<Published> {
  const text = async (name: string): Promise<string> => (await fetch(`${seeder.url}/${name}`)).text();
  const { fileHash, url } = parseNarInfo(
    await text(`${path.slice('/nix/store/'.length).slice(0, 32)}.narinfo`),
  );
  if (fileHash === undefined) throw new Error('Nix writes the FileHash');
  const { infoHash } = parseTorrentInfo(await text(`${fileHash}.torrentinfo`));
  return {
    fileHash,
    bytes: await readFile(join(cacheDir, url)),
    torrent: Buffer.from(await (await fetch(`${seeder.url}/${infoHash}.torrent`)).arrayBuffer()),
    magnet: `magnet:?xt=urn:btih:${infoHash}&tr=${encodeURIComponent(seeder.tracker ?? '')}`,
  };
}
