import { copyFile, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { compressionOfBytes, compressionOfName } from '../../cli/compression-of.ts';
import { narFileExtension, parseNarFileName } from '../../nar/compression.ts';
import { parseTorrentFile } from '../../swarm/torrent/torrent-file.ts';
import { runCommand } from './run-command.ts';

async function sampleNarFiles(dir: string, compression: string): Promise<string[]> {
  await runCommand(['sample-cache', dir, '--paths', '3', '--median', '200KiB', '--compression', compression]);
  return (await readdir(join(dir, 'nar'))).map((name) => join(dir, 'nar', name));
}

for (const compression of ['zstd', 'xz', 'none'] as const) {
  t.test(`the torrent of a NAR file with ${compression} does not depend on the file's name`, async (t) => {
    const base = t.testdir();
    const [file = ''] = await sampleNarFiles(join(base, 'cache'), compression);
    const out = join(base, 'x.torrent');
    const announce = 'http://tracker.example/announce';
    const flags = ['--out', out, '--announce', announce, '--web-seed', 'http://cache.example/nar/x'];
    const made = await runCommand(['torrent', file, ...flags]);
    t.equal(made.status, 0, made.errors);
    const torrent = parseTorrentFile(await readFile(out));
    t.match(made.out, new RegExp(`^infohash +${torrent.infoHash}$`, 'm'));
    t.match(made.out, new RegExp(`^name +${torrent.name}$`, 'm'));
    t.match(made.out, /^piece length +65536$/m);
    t.match(made.out, /^magnet +magnet:\?xt=urn:btih:.*tr=http%3A%2F%2Ftracker\.example%2Fannounce$/m);
    t.equal(parseNarFileName(torrent.name)?.compression, compression);
    t.match((await readFile(out)).toString('latin1'), /url-listl26:http:\/\/cache\.example\/nar\/x/);

    const renamed = join(base, 'anything');
    await copyFile(file, renamed);
    const again = await runCommand(['torrent', renamed]);
    t.match(again.out, torrent.infoHash);
    const forced = await runCommand(['torrent', renamed, '--compression', 'br']);
    t.match(forced.out, /\.nar\.br$/m, 'what the user says holds');
  });
}

t.test('a name that lies about the compression is refused, and so is what is no NAR file', async (t) => {
  const base = t.testdir({ 'x.nar.xz': gzipSync('not xz'), text: 'hello', 'empty.nar': '' });
  const lie = await runCommand(['torrent', join(base, 'x.nar.xz')]);
  t.equal(lie.status, 1);
  t.match(lie.errors, /named as xz, but its bytes are gzip/);
  t.match((await runCommand(['torrent', join(base, 'text')])).errors, /does not begin like a NAR/);
  t.equal((await runCommand(['torrent', join(base, 'empty.nar')])).status, 1);
});

t.test('names and first bytes tell the compression', async (t) => {
  t.equal(compressionOfName('a.nar'), 'none');
  t.equal(compressionOfName('a.nar.br'), 'br');
  t.equal(compressionOfName('a.tar.xz'), undefined);
  t.equal(compressionOfName(`x.nar${narFileExtension('bzip2')}`), 'bzip2');
  t.equal(compressionOfBytes(gzipSync('')), 'gzip');
  t.equal(compressionOfBytes(Buffer.from('BZh91AY')), 'bzip2');
  t.equal(compressionOfBytes(Buffer.alloc(0)), undefined);
});
