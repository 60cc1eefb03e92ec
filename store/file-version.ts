/** A file as it was at one time, by which it is seen without reading a byte that nothing has changed. */

import { type BigIntStats, statSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { diskError, errorCode } from './disk-error.ts';

/** A file as it was at one time: another size, modification time or inode means that it is another. */
export interface FileVersion {
  readonly sizeBytes: number;
  readonly mtimeNs: bigint;
  readonly inode: bigint;
  readonly isFile: boolean;
}

/** Follows symbolic links. `undefined` when there is nothing. Throws `store-failed`. */
export async function versionOf(path: string): Promise<FileVersion | undefined> {
  try {
    return versionIn(await stat(path, { bigint: true }));
  } catch (cause) {
    return absentOr(path, cause);
  }
}

/** The same, for threads that have nothing else to do. */
export function versionOfSync(path: string): FileVersion | undefined {
  try {
    return versionIn(statSync(path, { bigint: true }));
  } catch (cause) {
    return absentOr(path, cause);
  }
}

export function versionIn(stats: BigIntStats): FileVersion {
  return { sizeBytes: Number(stats.size), mtimeNs: stats.mtimeNs, inode: stats.ino, isFile: stats.isFile() };
}

function absentOr(path: string, cause: unknown): undefined {
  if (['ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG'].includes(errorCode(cause) ?? '')) return undefined;
  throw diskError(`look at ${path}`, cause);
}

export function sameVersion(a: FileVersion | undefined, b: FileVersion | undefined): boolean {
  return printVersion(a) === printVersion(b);
}

/** Without spaces. */
export function printVersion(version: FileVersion | undefined): string {
  if (version === undefined) return '-';
  const { sizeBytes, mtimeNs, inode, isFile } = version;
  return `${sizeBytes}.${mtimeNs}.${inode}${isFile ? '' : '.other'}`;
}
