import { hash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Assembly, heldBackBytes, withoutDiskMaxBytes } from '../../client/race/assembly.ts';
import { sha256FromDigest } from '../../nar/hash.ts';
import { PieceChecker } from '../../parts/piece-checker.ts';
import { MemoryStore } from '../../store/memory-store.ts';
import { HashThread } from '../../swarm/fetch/hash-thread.ts';
import { madeNar, pseudoRandom } from './made-nar.ts';

interface Options {
  sizeBytes?: number;
  checked: boolean;
  hashes?: HashThread;
}

async function assembly(bytes: Buffer, options: Options): Promise<Assembly> {
  const fileHash = sha256FromDigest(hash('sha256', bytes, 'buffer'));
  const writer = await new MemoryStore().create(`${fileHash}.nar`);
  return new Assembly({ writer, fileHash, sizeBytes: undefined, mostBytes: 1e9, ...options });
}

t.test('without a torrent the last 64 KiB are held back until FileHash is known to match', async (t) => {
  const bytes = pseudoRandom('held back', heldBackBytes * 3);
  const whole = await assembly(bytes, { sizeBytes: bytes.length, checked: false });
  await whole.append(bytes.subarray(0, heldBackBytes));
  t.equal(whole.released, 0);
  await whole.append(bytes.subarray(heldBackBytes, bytes.length - 1));
  t.equal(whole.released, bytes.length - 1 - heldBackBytes);
  t.notOk(whole.complete);
  await whole.append(bytes.subarray(bytes.length - 1));
  t.ok(whole.complete);
  t.equal(whole.released, bytes.length);
  t.same(await whole.read(100, 50), bytes.subarray(100, 150));
  t.same(await whole.read(bytes.length - 1, 50), bytes.subarray(bytes.length - 1));
});

t.test('wrong bytes are never released to the end', async (t) => {
  const bytes = pseudoRandom('wrong', heldBackBytes * 2);
  const wrong = Buffer.from(bytes);
  wrong[10] = ~(wrong[10] ?? 0);
  for (const checked of [true, false]) {
    const whole = await assembly(bytes, { sizeBytes: bytes.length, checked });
    await whole.append(wrong.subarray(0, heldBackBytes));
    await t.rejects(whole.append(wrong.subarray(heldBackBytes)), { code: 'file-hash-mismatch' });
    t.ok(whole.released <= heldBackBytes);
    t.notOk(whole.complete);
  }
});

t.test('what was released is read back, from memory and from the store', async (t) => {
  const bytes = pseudoRandom('long', 9_000_000);
  const whole = await assembly(bytes, { sizeBytes: bytes.length, checked: false });
  const readAll = async (): Promise<void> => {
    const parts: Buffer[] = [];
    for (let at = 0; at < whole.released; at += parts.at(-1)?.length ?? 0) {
      const part = await whole.read(at, 300_000);
      if (part.length === 0 || part.length > 300_000) t.fail(`${part.length} bytes at ${at}`);
      parts.push(part);
    }
    t.ok(Buffer.concat(parts).equals(bytes.subarray(0, whole.released)));
  };
  let chunk = 1;
  for (let at = 0; at < bytes.length; at += chunk, chunk = (chunk * 7) % 100_003) {
    await whole.append(bytes.subarray(at, at + chunk));
    if (at % 10 === 0) t.ok((await whole.read(Math.max(0, whole.released - 1), 1)).length <= 1);
  }
  await readAll();
  await whole.writer.commit();
  await readAll();
});

t.test('what a reader that is little behind has yet to read is not read from the disk', async (t) => {
  const bytes = pseudoRandom('followed', 9_000_000);
  const step = 500_000;
  const whole = await assembly(bytes, { sizeBytes: bytes.length, checked: true });
  whole.writer.read = () => Promise.reject(new Error('it is in memory'));
  const read = async (at: number): Promise<void> => {
    const part = await whole.lend(at, step);
    t.ok(part.equals(bytes.subarray(at, at + step)));
    whole.release(part);
  };
  await whole.append(bytes.subarray(0, step));
  await read(0);
  for (let at = step; at < bytes.length - step; at += step) {
    await whole.append(bytes.subarray(at, at + step));
    if (at >= 6_000_000) await read(at - 6_000_000 + step);
  }
  t.notOk(whole.remembers(0));
  t.ok(whole.remembers(3_500_000));
});

/** A file of which the disk takes the first ten bytes only, appended to its end. */
async function onFullDisk(bytes: Buffer): Promise<Assembly> {
  const whole = await assembly(bytes, { sizeBytes: bytes.length, checked: false });
  await whole.append(bytes.subarray(0, 10));
  whole.writer.write = () => Promise.reject(new Error('the disk is full'));
  for (let at = 10; at < bytes.length; at += 100_000) await whole.append(bytes.subarray(at, at + 100_000));
  return whole;
}

t.test('a write that fails ends the file, unless the rest of it fits in memory', async (t) => {
  const large = Buffer.alloc(withoutDiskMaxBytes + 100_000, 'large');
  await t.rejects(onFullDisk(large), { message: 'the disk is full' });
  const small = pseudoRandom('full disk', 5_000_000);
  const whole = await onFullDisk(small);
  t.ok(whole.complete);
  t.ok((await whole.read(10, small.length)).equals(small.subarray(10, 10 + 100_000)));
});

t.test('a file that ends too early or too late is refused', async (t) => {
  const bytes = pseudoRandom('sizes', 1_000);
  const long = await assembly(bytes, { sizeBytes: 1_000, checked: false });
  await t.rejects(long.append(Buffer.alloc(1_001)), { code: 'file-size-mismatch' });
  const short = await assembly(bytes, { sizeBytes: 1_000, checked: false });
  await short.append(bytes.subarray(0, 999));
  await t.rejects(short.finish(), { code: 'file-size-mismatch' });
  t.equal(short.released, 0);
});

t.test('without a size the end of the body is the end', async (t) => {
  const bytes = pseudoRandom('unsized', 1_000);
  const whole = await assembly(bytes, { checked: false });
  await whole.append(bytes);
  t.equal(whole.released, 0);
  await whole.finish();
  t.equal(whole.released, 1_000);
});

t.test('HTTP bytes come out of the piece checker in whole pieces, whatever their chunks', async (t) => {
  const { bytes, torrent } = madeNar({ name: 'pieces', sizeBytes: 300_000 });
  for (const chunkBytes of [1_000, 65_536, 300_000]) {
    const checker = new PieceChecker(torrent, 65_536);
    const pieces: Buffer[] = [];
    for (let at = 65_536; at < bytes.length; at += chunkBytes) {
      pieces.push(...checker.push(bytes.subarray(at, at + chunkBytes)));
    }
    t.same(Buffer.concat(pieces), bytes.subarray(65_536));
    t.equal(pieces.length, 4);
    t.throws(() => [...checker.push(Buffer.alloc(1))], { code: 'file-size-mismatch' });
  }
  const checker = new PieceChecker(torrent, 0);
  t.throws(() => [...checker.push(Buffer.alloc(65_536))], { code: 'piece-mismatch' });
});

t.test('a large file is hashed by the thread, and memory is used again once nobody reads it', async (t) => {
  const hashes = new HashThread();
  t.teardown(() => hashes.close());
  while (!hashes.ready) await sleep(5);
  const pieceBytes = 1024 * 1024;
  const bytes = pseudoRandom('thread', 20 * pieceBytes);
  for (const spoilt of [false, true]) {
    const whole = await assembly(bytes, { sizeBytes: bytes.length, checked: true, hashes });
    const memory = new Map<ArrayBufferLike, number>();
    let lent: Buffer | undefined;
    let last: Promise<void> = Promise.resolve();
    for (let at = 0; at < bytes.length; at += pieceBytes) {
      const piece = hashes.memory.take(pieceBytes);
      memory.set(piece.buffer, (memory.get(piece.buffer) ?? 0) + 1);
      bytes.copy(piece, 0, at);
      if (spoilt && at === 5 * pieceBytes) piece[7] = ~(piece[7] ?? 0);
      last = whole.append(piece);
      if (at + pieceBytes < bytes.length) await last;
      if (at === 0) lent = await whole.lend(0, pieceBytes);
      // Given to somebody who may keep it.
      if (at === pieceBytes) await whole.read(at, 10);
      if (at > 6 * pieceBytes) whole.release(await whole.lend(at - pieceBytes, 1_000));
    }
    if (spoilt) await t.rejects(last, { code: 'file-hash-mismatch' });
    else await last;
    t.equal(whole.complete, !spoilt);
    t.ok(lent?.equals(bytes.subarray(0, pieceBytes)), 'what is lent stays as it was');
    if (lent !== undefined) whole.release(lent);
    t.ok(memory.size < 20, `${memory.size} pieces of memory`);
  }
});

t.test('when the thread that hashed it dies, a file is hashed again from its first byte', async (t) => {
  const bytes = pseudoRandom('crashed', 9_000_000);
  const hashes = new HashThread();
  t.teardown(() => hashes.close());
  const whole = await assembly(bytes, { sizeBytes: bytes.length, checked: true, hashes });
  for (let at = 0; at < bytes.length - 1; at += 500_000) {
    await whole.append(bytes.subarray(at, Math.min(at + 500_000, bytes.length - 1)));
  }
  await t.rejects(hashes.sha1(noBytes), { code: 'verify-crashed' });
  await whole.append(bytes.subarray(bytes.length - 1));
  t.ok(whole.complete);
});

/** What the thread dies of. */
const noBytes = { buffer: new SharedArrayBuffer(1) } as unknown as Uint8Array;

t.test('what another file goes on with is not in memory that is used again meanwhile', async (t) => {
  const hashes = new HashThread();
  t.teardown(() => hashes.close());
  const lengthBytes = 1024 * 1024;
  const bytes = pseudoRandom('carried', 10 * lengthBytes);
  const former = await assembly(bytes, { checked: true, hashes });
  const first = hashes.memory.take(lengthBytes);
  bytes.copy(first);
  await former.append(first);
  const next = await assembly(bytes, { checked: true, hashes });
  await next.append(await former.readAppended(0, lengthBytes));
  for (let at = lengthBytes; at < bytes.length; at += lengthBytes) {
    await next.append(bytes.subarray(at, at + lengthBytes));
  }
  t.notOk(next.remembers(0));
  hashes.memory.take(lengthBytes).fill(0);
  t.ok((await former.read(0, lengthBytes)).equals(bytes.subarray(0, lengthBytes)));
});
