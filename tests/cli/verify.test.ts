import { copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import t, { type Test } from 'tap';
import { printTorrentInfo, signTorrentInfo, torrentInfoName } from '../../catalog/torrentinfo.ts';
import { makeSampleCache } from '../../cli/sample-cache/make.ts';
import { isCompression } from '../../nar/compression.ts';
import { makeNarInfo, parseNarInfo } from '../../nar/narinfo.ts';
import { printPublicKey, publicKeyOf, secretKeyFromSeed } from '../../nar/signature.ts';
import { verifyNarFile } from '../../parts/verify.ts';
import { runCommand } from './run-command.ts';

const secretKey = secretKeyFromSeed('cache.example-1', Buffer.alloc(32, 1));
const key = printPublicKey(publicKeyOf(secretKey));
const otherKey = printPublicKey(publicKeyOf(secretKeyFromSeed('other.example-1', Buffer.alloc(32, 2))));
const impostor = printPublicKey(publicKeyOf(secretKeyFromSeed('cache.example-1', Buffer.alloc(32, 3))));

interface Sample {
  dir: string;
  narInfoFile: string;
  narFile: string;
}

/** A cache of which one path is looked at. */
async function sample(t: Test): Promise<Sample> {
  const base = t.testdir({ project: { node_modules: { one: { 'data.js': 'x'.repeat(20_000) } } } });
  const dir = join(base, 'cache');
  const signal = new AbortController().signal;
  await makeSampleCache({
    dir,
    secretKey,
    signal,
    paths: 2,
    medianBytes: 9_000,
    compression: 'zstd',
    seed: 1,
    contentDir: join(base, 'project'),
  });
  const name = (await readdir(dir)).find((each) => each.endsWith('.narinfo')) ?? '';
  const narInfo = parseNarInfo(await readFile(join(dir, name)));
  return { dir, narInfoFile: join(dir, name), narFile: join(dir, narInfo.url) };
}

const verify = (...args: string[]) => runCommand(['verify', ...args]);

t.test('a good cache passes every check, narinfos and NAR files alike', async (t) => {
  const { dir, narFile } = await sample(t);
  const narInfos = (await readdir(dir))
    .filter((name) => name.endsWith('.narinfo'))
    .map((name) => join(dir, name));
  const { status, out } = await verify(...narInfos, narFile, '--trusted-key', key);
  t.equal(status, 0, out);
  t.notMatch(out, /FAIL|^-/m);
  for (const what of [
    'format',
    'name',
    'signature',
    'content address',
    'NAR file',
    'infohash',
    'compression',
    'NAR ',
  ]) {
    t.match(out, new RegExp(`^ok +\\S+ +${what}`, 'm'), what);
  }
});

t.test('a signature is told apart: by another key, by an impostor, or missing', async (t) => {
  const { narInfoFile } = await sample(t);
  const other = await verify(narInfoFile, '--trusted-key', otherKey);
  t.equal(other.status, 0, 'a content address needs no signature');
  t.match(other.out, /^- .*signature +none by a --trusted-key; it claims cache\.example-1$/m);
  const forged = await verify(narInfoFile, '--trusted-key', impostor);
  t.equal(forged.status, 1);
  t.match(forged.out, /^FAIL .*signature/m);
  const { ca, ...plain } = parseNarInfo(await readFile(narInfoFile));
  t.ok(ca);
  await writeFile(narInfoFile, makeNarInfo({ ...plain, sigs: [] }).text);
  const unsigned = await verify(narInfoFile, '--trusted-key', key);
  t.equal(unsigned.status, 1);
  t.match(unsigned.out, /^FAIL .*signature.*it has none/m);
});

t.test('a NAR file that is not what its narinfo says fails, with the reason', async (t) => {
  const { narInfoFile, narFile } = await sample(t);
  const bytes = await readFile(narFile);
  const spoilt = Buffer.from(bytes);
  spoilt[spoilt.length - 5] = (spoilt.at(-5) ?? 0) ^ 1;
  await writeFile(narFile, spoilt);
  const changed = await verify(narInfoFile, narFile, '--trusted-key', key);
  t.equal(changed.status, 1);
  t.match(
    changed.out,
    /^FAIL .*\.narinfo +NAR file +(file-hash-mismatch|decompression-failed|nar-hash-mismatch)/m,
  );
  t.match(changed.out, /^FAIL .*\.nar\.zst +name/m);
  await writeFile(narFile, bytes.subarray(0, -9));
  t.match((await verify(narInfoFile, '--trusted-key', key)).out, /^FAIL .*NAR file +file-size-mismatch/m);
  await rm(narFile);
  const missing = await verify(narInfoFile, '--trusted-key', key);
  t.equal(missing.status, 0);
  t.match(missing.out, /^- .*NAR file.*is not beside the narinfo/m);
});

t.test('a URL that leaves the directory is not followed', async (t) => {
  const { dir, narInfoFile, narFile } = await sample(t);
  await copyFile(narFile, join(dir, '..', 'outside.nar.zst'));
  const narInfo = parseNarInfo(await readFile(narInfoFile));
  for (const url of ['../outside.nar.zst', '%2e%2e/outside.nar.zst', 'file:///etc/passwd', 'nar/%00']) {
    await writeFile(narInfoFile, makeNarInfo({ ...narInfo, url }).text);
    t.match((await verify(narInfoFile, '--trusted-key', key)).out, /^- .*NAR file/m, url);
  }
});

t.test('a torrentinfo is checked against its key and its NAR file', async (t) => {
  const { dir, narInfoFile, narFile } = await sample(t);
  const narInfo = parseNarInfo(await readFile(narInfoFile));
  const { compression, narHash, narSize } = narInfo;
  if (!isCompression(compression)) throw new Error('unreadable');
  const verified = await verifyNarFile({ path: narFile, compression, narHash, narSize });
  const { fileHash, fileSize, file, nar } = verified;
  const fields = {
    fileHash,
    fileSize,
    compression,
    narHash,
    narSize,
    infoHash: file.infoHash,
    narInfoHash: nar.infoHash,
  };
  const name = join(dir, torrentInfoName(fileHash));
  await writeFile(name, printTorrentInfo(signTorrentInfo(fields, secretKey)));
  const good = await verify(name, '--catalog-key', key);
  t.equal(good.status, 0, good.out);
  t.notMatch(good.out, /^(FAIL|-)/m);
  t.match((await verify(name)).out, /^- .*no --catalog-key was given/m);
  t.equal((await verify(name, '--catalog-key', otherKey)).status, 1);
  const wrong = { ...fields, infoHash: nar.infoHash };
  await writeFile(name, printTorrentInfo(signTorrentInfo(wrong, secretKey)));
  t.match((await verify(name, '--catalog-key', key)).out, /^FAIL .* InfoHash/m);
  await mkdir(join(dir, 'elsewhere'));
  await copyFile(name, join(dir, 'elsewhere', basename(name)));
  t.match((await verify(join(dir, 'elsewhere', basename(name)))).out, /^- .*not beside the torrentinfo/m);
});

t.test('what is none of these says so, and does not stop the others', async (t) => {
  const { narFile } = await sample(t);
  const base = t.testdirName;
  await writeFile(join(base, 'bad.narinfo'), 'StorePath: nonsense\n');
  await writeFile(join(base, 'text'), '\u001b[31mhello');
  const { status, out } = await verify(
    join(base, 'text'),
    join(base, 'missing'),
    base,
    join(base, 'bad.narinfo'),
    narFile,
  );
  t.equal(status, 1);
  t.match(out, /FAIL .*text +file +is no narinfo, torrentinfo, pack, NAR file, head or segment/);
  t.match(out, /FAIL .*missing +file +cannot be read/);
  t.match(out, /FAIL .*bad\.narinfo +format +narinfo-corrupt/);
  t.match(out, /^ok .*\.nar\.zst +NAR /m);
});
