import { randomBytes } from 'node:crypto';
import { closeSync, openSync, truncateSync, unlinkSync, writeFileSync, writeSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { Compression } from '../../nar/compression.ts';
import { narFileName } from '../../nar/compression.ts';
import { type VerifyJob, verifyNarFile, verifySlackBytes } from '../../parts/verify.ts';
import { XzShell } from '../../parts/xz-shell.ts';
import { TorrentHasher } from '../../swarm/torrent/torrent.ts';
import { compressNar, makeNar, sha256 } from '../helpers/cache-builder.ts';

const dir = await mkdtemp(join(tmpdir(), 'narswarm-verify-'));
t.teardown(() => rm(dir, { recursive: true }));
let files = 0;
const xzShell = new XzShell();
t.teardown(() => xzShell.close());
/** Of whoever verifies one file, and of whoever verifies many. */
const eachWay = [{}, { xzShell }];

async function jobOf(narFile: Buffer, compression: Compression, nar: Buffer): Promise<VerifyJob> {
  const path = join(dir, String(files++));
  await writeFile(path, narFile);
  return {
    path,
    compression,
    fileHash: sha256(narFile),
    fileSize: narFile.length,
    narHash: sha256(nar),
    narSize: nar.length,
  };
}

function torrentOf(bytes: Buffer, name: string) {
  const hasher = new TorrentHasher(bytes.length);
  hasher.write(bytes);
  return hasher.finish(name);
}

const small = makeNar({ bin: { hello: '#!/bin/sh\necho hello\n' }, link: { link: 'bin/hello' } });
// Above the size from which xz is a process of its own, and not compressible throughout.
const large = makeNar({ a: randomBytes(300_000), b: Buffer.alloc(4_000_000, 'text '), c: 'c' });

t.test('what is verified has both canonical torrents', async (t) => {
  for (const compression of ['none', 'xz', 'zstd', 'br', 'gzip'] as const) {
    for (const nar of [small, large]) {
      const narFile = compressNar(nar, compression);
      for (const options of eachWay) {
        const verified = await verifyNarFile(await jobOf(narFile, compression, nar), options);
        t.equal(verified.fileHash, sha256(narFile));
        t.equal(verified.fileSize, narFile.length);
        t.same(verified.file, torrentOf(narFile, narFileName(sha256(narFile), compression)), compression);
        t.same(verified.nar, torrentOf(nar, narFileName(sha256(nar), 'none')), `${compression}, the NAR`);
      }
    }
  }
});

t.test('FileHash and FileSize are made up where the narinfo has none', async (t) => {
  const narFile = compressNar(small, 'xz');
  const job = await jobOf(narFile, 'xz', small);
  const verified = await verifyNarFile({ ...job, fileHash: undefined, fileSize: undefined }, { xzShell });
  t.equal(verified.fileHash, sha256(narFile));
  t.equal(verified.fileSize, narFile.length);
});

t.test('each fault has its code', async (t) => {
  const other = makeNar({ other: 'content' });
  const cut = (bytes: Buffer, by: number): Buffer => bytes.subarray(0, bytes.length - by);
  const badHash = sha256(Buffer.from('something else'));
  const unhashed = { fileHash: undefined, fileSize: undefined };
  for (const compression of ['none', 'xz', 'zstd', 'br', 'gzip'] as const) {
    const packed = new Map<Buffer, Buffer>();
    const pack = (nar: Buffer): Buffer => {
      const narFile = packed.get(nar) ?? compressNar(nar, compression);
      packed.set(nar, narFile);
      return narFile;
    };
    const none = compression === 'none';
    for (const nar of [small, large]) {
      const good = await jobOf(pack(nar), compression, nar);
      const junk = Buffer.concat([pack(nar), Buffer.from('junk')]);
      const longer = Buffer.concat([nar, Buffer.alloc(verifySlackBytes * 2)]);
      const flipped = Buffer.from(pack(nar));
      flipped[flipped.length >> 1] = (flipped[flipped.length >> 1] ?? 0) ^ 0x55;
      const faults: [string, string, VerifyJob][] = [
        ['FileSize', 'file-size-mismatch', { ...good, fileSize: (good.fileSize ?? 0) + 1 }],
        ['FileHash', 'file-hash-mismatch', { ...good, fileHash: badHash }],
        ['NarHash', 'nar-hash-mismatch', { ...good, narHash: badHash }],
        ['NarSize too large', 'nar-size-mismatch', { ...good, narSize: nar.length + 8 }],
        ['NarSize too small', 'nar-size-mismatch', { ...good, narSize: nar.length - 8 }],
        ['no file', 'nar-file-missing', { ...good, path: join(dir, 'nothing') }],
        ['a directory', 'nar-file-missing', { ...good, path: dir }],
        [
          'cut short',
          'file-size-mismatch',
          { ...(await jobOf(cut(pack(nar), 9), compression, nar)), fileSize: good.fileSize },
        ],
        [
          'flipped',
          'file-hash-mismatch',
          { ...(await jobOf(flipped, compression, nar)), fileHash: good.fileHash },
        ],
        ['empty', 'nar-truncated', { ...(await jobOf(Buffer.alloc(0), compression, nar)), ...unhashed }],
        [
          'cut short, nothing promised',
          none ? 'nar-truncated' : 'decompression-failed',
          { ...(await jobOf(cut(pack(nar), 9), compression, nar)), ...unhashed },
        ],
        ['the NAR cut short', 'nar-truncated', await jobOf(pack(cut(nar, 8)), compression, nar)],
        [
          'not a NAR',
          'nar-corrupt',
          await jobOf(pack(Buffer.from('x'.repeat(nar.length))), compression, nar),
        ],
        ['another NAR', 'nar-size-mismatch', await jobOf(pack(other), compression, nar)],
        ['junk behind', none ? 'nar-corrupt' : 'decompression-failed', await jobOf(junk, compression, nar)],
        ['a NAR and more', 'nar-corrupt', await jobOf(pack(longer), compression, longer)],
      ];
      for (const [what, code, job] of faults) {
        for (const options of compression === 'xz' ? eachWay : [{}]) {
          const verifying = verifyNarFile(job, options);
          await t.rejects(verifying, { code }, `${compression}, ${nar.length} bytes: ${what}`);
        }
      }
    }
  }
});

t.test('a decompression bomb is noticed before it has gone far', async (t) => {
  const bomb = makeNar({ zeros: Buffer.alloc(64_000_000) });
  for (const compression of ['xz', 'zstd', 'br', 'gzip'] as const) {
    for (const narSize of [100_000, 5_000_000]) {
      const job = await jobOf(compressNar(bomb, compression), compression, bomb);
      for (const options of eachWay) {
        const verifying = verifyNarFile({ ...job, narSize }, options);
        await t.rejects(verifying, { code: 'decompression-bomb' }, compression);
      }
    }
  }
});

t.test('a file that changes while it is read is neither verified nor refused', async (t) => {
  const job = await jobOf(large, 'none', large);
  // It has opened the file and read its first chunk when this returns.
  const verifying = verifyNarFile(job);
  const fd = openSync(job.path, 'r+');
  writeSync(fd, Buffer.from([0]), 0, 1, 4_200_000);
  closeSync(fd);
  await t.rejects(verifying, { code: 'not-held' });
});

t.test('one that changes while xz reads it is neither verified nor refused', async (t) => {
  const job = await jobOf(compressNar(large, 'xz'), 'xz', large);
  const verifying = verifyNarFile(job, { xzShell });
  truncateSync(job.path, 1000);
  await t.rejects(verifying, { code: 'not-held' });
});

t.test('what xz reads of another file than the one that is hashed is not verified', async (t) => {
  const [a, b] = [makeNar({ a: randomBytes(300_000) }), makeNar({ a: randomBytes(300_000) })];
  const job = await jobOf(compressNar(a, 'xz'), 'xz', a);
  const other = compressNar(b, 'xz');
  const verifying = verifyNarFile(job, { xzShell });
  // The one that was opened is still there, under no name.
  unlinkSync(job.path);
  writeFileSync(job.path, other);
  await t.rejects(verifying, { code: 'not-held' });
});

t.test('an abort stops it', async (t) => {
  const job = await jobOf(compressNar(large, 'xz'), 'xz', large);
  for (const options of eachWay) {
    const abort = new AbortController();
    const verifying = verifyNarFile(job, { ...options, signal: abort.signal });
    abort.abort();
    await t.rejects(verifying, { code: 'aborted' });
  }
});
