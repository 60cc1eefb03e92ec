/** By what the scanner of a directory sees that nothing has changed, without reading a byte. */

import { type BigIntStats, statSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { diskError, errorCode } from '../store/disk-error.ts';

/** A file as it was at one time: another size, modification time or inode means that it is another. */
export interface FileVersion {
  readonly sizeBytes: number;
  readonly mtimeNs: bigint;
  readonly inode: bigint;
  readonly isFile: boolean;
}

export interface Fingerprint {
  /** See `policyTag`. */
  readonly policy: string;
  readonly narInfo: FileVersion | undefined;
  /** `undefined` when there was no such file. */
  readonly nar: FileVersion | undefined;
  /** Of the NAR file, relative to the source; `undefined` when the narinfo did not come to name one. */
  readonly narPath: string | undefined;
}

export function printFingerprint({ policy, narInfo, nar, narPath }: Fingerprint): string {
  return ['1', policy, printVersion(narInfo), printVersion(nar), narPath ?? ''].join(' ');
}

/** What `printFingerprint` needs to be compared: the path of the NAR file that was seen. `undefined` for another's text. */
export function narPathOf(fingerprint: string): { narPath: string | undefined } | undefined {
  const match = /^1 \S+ \S+ \S+ (.*)$/s.exec(fingerprint);
  return match === null ? undefined : { narPath: match[1] || undefined };
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

function printVersion(version: FileVersion | undefined): string {
  if (version === undefined) return '-';
  const { sizeBytes, mtimeNs, inode, isFile } = version;
  return `${sizeBytes}.${mtimeNs}.${inode}${isFile ? '' : '.other'}`;
}
