/** `narswarm torrent`. */

import { writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { type Compression, compressions } from '../nar/compression.ts';
import { NarswarmError } from '../nar/errors.ts';
import { printSha256 } from '../nar/hash.ts';
import { remakePack } from '../parts/remake-pack.ts';
import { pieceCount, type Torrent } from '../swarm/torrent/torrent.ts';
import { magnetLink, torrentFile } from '../swarm/torrent/torrent-file.ts';
import { defineCommand } from './command.ts';
import { summaryOf } from './commands.ts';
import { compressionOfFile } from './compression-of.ts';
import { anyText, many, optional } from './flags.ts';
import { hashNarFile } from './hash-nar-file.ts';
import { directoryParts, packDirectory, readPackInfo } from './pack-directory.ts';
import { parseChoice, parseUrl } from './units.ts';

export const command = defineCommand({
  name: 'torrent',
  summary: summaryOf('torrent'),
  usage: 'FILE',
  positionals: { min: 1, max: 1 },
  flags: {
    out: optional({ value: 'FILE', help: 'write the .torrent here', parse: anyText }),
    announce: optional({
      value: 'URL',
      help: 'tracker, for the .torrent and the magnet link',
      parse: (text) => parseUrl(text, ['http:', 'https:', 'udp:']),
    }),
    'web-seed': many({
      value: 'URL',
      help: 'where the NAR file is served over HTTP, for the .torrent',
      parse: (text) => parseUrl(text, ['http:', 'https:']),
    }),
    files: optional({
      value: 'DIR',
      help: "a pack's files: a cache that has them, or the downloaded pack; by default beside its manifest",
      parse: anyText,
    }),
    compression: optional<Compression>({
      value: 'NAME',
      help: `${compressions.join(', ')}; by default from the file's name and first bytes`,
      parse: (text) => parseChoice(text, compressions),
    }),
  },
  notes: [
    "The torrent is canonical: it follows from the file's bytes and compression alone, so that whoever has them gets the same infohash. FILE may have any name. Its contents are not verified; `narswarm verify` does that.",
    'FILE may be the manifest of a pack (.packinfo): its torrent is made again from its NAR files and narinfos.',
  ],
  examples: [
    'torrent nar/1abc….nar.xz',
    'torrent 1abc….packinfo --files /srv/cache --out 1abc….torrent',
    'torrent nar/1abc….nar.xz --out 1abc….torrent --announce http://seeder.example:8421/announce',
  ],
  async run({ values, positionals: [file = ''], io }) {
    const { announce, out, files } = values;
    const { torrent, fileHash } = file.endsWith('.packinfo')
      ? { torrent: await packTorrent(file, files, io.signal), fileHash: undefined }
      : await hashNarFile(file, values.compression ?? (await compressionOfFile(file)), io.signal);
    const trackers = announce === undefined ? [] : [announce];
    const rows: [string, string | number][] = [
      ['name', torrent.name],
      ['size', torrent.length],
      ['piece length', torrent.pieceLength],
      ['pieces', pieceCount(torrent)],
      ...(fileHash === undefined ? [] : [['file hash', printSha256(fileHash)] as [string, string]]),
      ['infohash', torrent.infoHash],
      ['magnet', magnetLink(torrent, { trackers })],
    ];
    io.out(rows.map(([name, value]) => `${name.padEnd(14)}${value}\n`).join(''));
    if (out !== undefined) {
      const options = { webSeeds: values['web-seed'], ...(announce === undefined ? {} : { announce }) };
      await writeFile(out, torrentFile(torrent, options));
      io.note(`wrote ${basename(out)}\n`);
    }
    return 0;
  },
});

/** Throws not-held when files are missing or are not what the manifest says, torrent-invalid when they make another torrent. */
async function packTorrent(file: string, files: string | undefined, signal: AbortSignal): Promise<Torrent> {
  const pack = await readPackInfo(file);
  const dir = packDirectory(file, pack, files);
  const made = await remakePack(pack, directoryParts(dir), signal);
  if ('faults' in made) {
    const [first] = made.faults;
    const which = `${made.faults.length} files, the first being ${first?.path}: ${first?.why}`;
    throw new NarswarmError('not-held', `${dir} does not have all of the pack: ${which}`);
  }
  if (made.torrent.infoHash !== pack.infoHash)
    throw new NarswarmError(
      'torrent-invalid',
      `the files make ${made.torrent.infoHash}, the manifest says ${pack.infoHash}`,
    );
  return made.torrent;
}
