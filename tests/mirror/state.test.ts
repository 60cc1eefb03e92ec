import { writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { type HeldFile, MirrorState } from '../../mirror/state.ts';
import { infoHashFromDigest } from '../../nar/hash.ts';
import { sha256 } from '../helpers/cache-builder.ts';

function fileOf(name: string, sizeBytes = 100): HeldFile {
  return {
    fileHash: sha256(Buffer.from(name)),
    name: `${sha256(Buffer.from(name))}.nar`,
    sizeBytes,
    mtimeNs: 1_790_000_000_123_456_789n,
    infoHash: infoHashFromDigest(Buffer.from(sha256(Buffer.from(name))).subarray(0, 20)),
    pieces: Buffer.alloc(20, 7),
    sinceMs: 1_000,
    verifiedMs: 2_000,
  };
}

t.test('what is held is there again after the process', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-mirror-state-'));
  t.teardown(() => rm(dir, { recursive: true }));
  const path = join(dir, 'mirror.sqlite');
  const state = new MirrorState(path);
  const [a, b] = [fileOf('a'), fileOf('b', 50)];
  state.put(a, { catalog: 'one', urls: ['nar/a', 'nar/a?token=1'] });
  state.put(b, { catalog: 'two', urls: ['nar/a'] });
  t.same(state.totals(), { files: 2, bytes: 150 });
  t.equal(state.leastVerified()?.verifiedMs, 2_000);
  state.put({ ...a, sinceMs: 9_000, verifiedMs: 3_000 }, { catalog: 'one', urls: [] });
  t.same(state.totals(), { files: 2, bytes: 150 }, 'the same file again is no other one');
  state.setFact('salt', '7');
  state.setSeeds([[a.fileHash, 3]], 5_000);
  state.close();
  state.close();

  const again = new MirrorState(path);
  t.teardown(() => again.close());
  t.same(again.held(a.fileHash), { ...a, verifiedMs: 3_000 }, 'since when it is held stays');
  t.same(again.byInfoHash(b.infoHash), b);
  t.ok(again.hasInfoHash(a.infoHash));
  t.equal(again.byUrl('one', 'nar/a?token=1'), a.fileHash);
  t.equal(again.leastVerified()?.fileHash, b.fileHash);
  t.same(new Set(again.page(undefined).map(({ fileHash }) => fileHash)), new Set([a.fileHash, b.fileHash]));
  again.drop(a.fileHash);
  again.drop(a.fileHash);
  t.same(again.totals(), { files: 1, bytes: 50 });
  t.equal(again.byUrl('one', 'nar/a'), undefined, 'its URLs go with it');
  t.equal(again.byUrl('two', 'nar/a'), b.fileHash, 'what another catalog calls so stays');
  t.notOk(again.isHeld(a.fileHash));
  t.equal(again.fact('salt'), '7');
  t.throws(() => new MirrorState(dir), { code: 'store-failed', message: /is a directory: move it away/ });
  const damaged = join(dir, 'damaged.sqlite');
  writeFileSync(damaged, Buffer.alloc(20_000, 'no database'));
  t.throws(() => new MirrorState(damaged), { message: /it is damaged: move it away/ });
});
