/** A tree of files that exists in no directory, and its NAR: real files with store paths linked in among them. */

import { createReadStream } from 'node:fs';
import { lstat, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { NarswarmError } from '../../nar/errors.ts';
import {
  narDirectoryStart,
  narEntryStart,
  narMagic,
  narNodeEnd,
  narPaddingBytes,
  narRegularStart,
  narSymlink,
} from '../../nar/nar-writer.ts';

export type Tree =
  | { kind: 'directory'; entries: Map<string, Tree> }
  | { kind: 'file'; sizeBytes: number; executable: boolean; read(): AsyncIterable<Buffer> | Iterable<Buffer> }
  | { kind: 'symlink'; target: string };

/** Small pieces are gathered until there are this many bytes: each chunk costs a turn through hashes and compressor. */
const gatherBytes = 128 * 1024;

export function directoryOf(entries: Iterable<readonly [string, Tree]>): Tree & { kind: 'directory' } {
  return { kind: 'directory', entries: new Map(entries) };
}

export function fileOf(text: string): Tree {
  const bytes = Buffer.from(text);
  return { kind: 'file', sizeBytes: bytes.length, executable: false, read: () => [bytes] };
}

/** What is at `path` on disk. `skip` names entries of the top directory that stay out. Reads no contents yet. */
export async function treeAt(path: string, skip: ReadonlySet<string> = new Set()): Promise<Tree> {
  const stat = await lstat(path);
  if (stat.isSymbolicLink()) return { kind: 'symlink', target: await readlink(path) };
  if (stat.isFile()) {
    const read = (): AsyncIterable<Buffer> => createReadStream(path, { highWaterMark: gatherBytes });
    return { kind: 'file', sizeBytes: stat.size, executable: (stat.mode & 0o100) !== 0, read };
  }
  if (!stat.isDirectory()) throw new NarswarmError('store-failed', `${path} is no file, link or directory`);
  const entries = new Map<string, Tree>();
  for (const name of await readdir(path)) {
    if (!skip.has(name)) entries.set(name, await treeAt(join(path, name)));
  }
  return { kind: 'directory', entries };
}

/** Bytes of all files in the tree. */
export function contentBytes(tree: Tree): number {
  if (tree.kind === 'file') return tree.sizeBytes;
  let bytes = 0;
  if (tree.kind === 'directory') for (const entry of tree.entries.values()) bytes += contentBytes(entry);
  return bytes;
}

/** The NAR in chunks that stay valid. Throws store-failed when a file is not as long as it was. */
export async function* narOf(tree: Tree): AsyncGenerator<Buffer> {
  let gathered: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of nodes(tree)) {
    gathered.push(chunk);
    bytes += chunk.length;
    if (bytes < gatherBytes) continue;
    yield Buffer.concat(gathered);
    gathered = [];
    bytes = 0;
  }
  if (bytes > 0) yield Buffer.concat(gathered);
}

async function* nodes(tree: Tree): AsyncGenerator<Buffer> {
  yield narMagic;
  yield* node(tree);
}

async function* node(tree: Tree): AsyncGenerator<Buffer> {
  if (tree.kind === 'symlink') {
    yield narSymlink(tree.target);
  } else if (tree.kind === 'file') {
    yield narRegularStart(tree.sizeBytes, tree.executable);
    let bytes = 0;
    for await (const chunk of tree.read()) {
      bytes += chunk.length;
      yield chunk;
    }
    if (bytes !== tree.sizeBytes) throw new NarswarmError('store-failed', 'a file changed while it was read');
    yield Buffer.alloc(narPaddingBytes(tree.sizeBytes));
    yield narNodeEnd;
  } else {
    yield narDirectoryStart;
    const names = [...tree.entries.keys()].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    for (const name of names) {
      const entry = tree.entries.get(name);
      if (entry === undefined) continue;
      yield narEntryStart(name);
      yield* node(entry);
      yield narNodeEnd;
    }
    yield narNodeEnd;
  }
}
