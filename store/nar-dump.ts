/** Writes the NAR of a file, link or directory on disk: the same bytes as `nix-store --dump`. */

import { lstat, open, readdir, readlink } from 'node:fs/promises';
import { NarswarmError } from '../nar/errors.ts';
import {
  narDirectoryStart,
  narEntryStart,
  narMagic,
  narNodeEnd,
  narPaddingBytes,
  narRegularStart,
  narSymlink,
} from '../nar/nar-writer.ts';

/** Bytes of a file read at once. */
const readBytes = 256 * 1024;

/**
 * Yields the NAR in chunks of at most 256 KiB; a chunk is valid until the next is asked for. Memory is flat in the size
 * of files; a directory's names are held while it is walked. Throws `store-failed` for devices, sockets and pipes, and
 * when a file changes its size meanwhile.
 */
export async function* dumpNar(path: string): AsyncGenerator<Buffer> {
  yield narMagic;
  yield* dumpNode(Buffer.from(path));
}

async function* dumpNode(path: Buffer): AsyncGenerator<Buffer> {
  const stat = await lstat(path);
  if (stat.isSymbolicLink()) {
    yield narSymlink(await readlink(path, { encoding: 'buffer' }));
  } else if (stat.isDirectory()) {
    yield* dumpDirectory(path);
  } else if (stat.isFile()) {
    // As Nix: the owner's permission decides.
    yield* dumpRegular(path, stat.size, (stat.mode & 0o100) !== 0);
  } else {
    throw new NarswarmError('store-failed', `${path} is no file, directory or symbolic link`);
  }
}

async function* dumpDirectory(path: Buffer): AsyncGenerator<Buffer> {
  yield narDirectoryStart;
  const names = await readdir(path, { encoding: 'buffer' });
  for (const name of names.sort(Buffer.compare)) {
    yield narEntryStart(name);
    yield* dumpNode(Buffer.concat([path, Buffer.from('/'), name]));
    yield narNodeEnd;
  }
  yield narNodeEnd;
}

async function* dumpRegular(path: Buffer, sizeBytes: number, executable: boolean): AsyncGenerator<Buffer> {
  yield narRegularStart(sizeBytes, executable);
  const file = await open(path, 'r');
  try {
    const buffer = Buffer.allocUnsafe(Math.min(readBytes, sizeBytes));
    for (let position = 0; position < sizeBytes; ) {
      const { bytesRead } = await file.read(
        buffer,
        0,
        Math.min(buffer.length, sizeBytes - position),
        position,
      );
      if (bytesRead === 0)
        throw new NarswarmError('store-failed', `${path} became shorter while it was read`);
      position += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await file.close();
  }
  yield Buffer.alloc(narPaddingBytes(sizeBytes));
  yield narNodeEnd;
}
