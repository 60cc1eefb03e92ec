/** `narswarm torrent`. */

import { writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { type Compression, compressions } from '../nar/compression.ts';
import { printSha256 } from '../nar/hash.ts';
import { pieceCount } from '../swarm/torrent.ts';
import { magnetLink, torrentFile } from '../swarm/torrent-file.ts';
import { defineCommand } from './command.ts';
import { summaryOf } from './commands.ts';
import { compressionOfFile } from './compression-of.ts';
import { anyText, many, optional } from './flags.ts';
import { hashNarFile } from './hash-nar-file.ts';
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
    compression: optional<Compression>({
      value: 'NAME',
      help: `${compressions.join(', ')}; by default from the file's name and first bytes`,
      parse: (text) => parseChoice(text, compressions),
    }),
  },
  notes: [
    "The torrent is canonical: it follows from the file's bytes and compression alone, so that whoever has them gets the same infohash. FILE may have any name. Its contents are not verified; `narswarm verify` does that.",
  ],
  examples: [
    'torrent nar/1abc….nar.xz',
    'torrent nar/1abc….nar.xz --out 1abc….torrent --announce http://seeder.example:8421/announce',
  ],
  async run({ values, positionals: [file = ''], io }) {
    const compression = values.compression ?? (await compressionOfFile(file));
    const { fileHash, torrent } = await hashNarFile(file, compression, io.signal);
    const { announce, out } = values;
    const trackers = announce === undefined ? [] : [announce];
    const rows: [string, string | number][] = [
      ['name', torrent.name],
      ['size', torrent.length],
      ['piece length', torrent.pieceLength],
      ['pieces', pieceCount(torrent)],
      ['file hash', printSha256(fileHash)],
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
