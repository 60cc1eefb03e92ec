/**
 * What the scan of a directory reads of one narinfo, and what that says by itself. Synchronous: it runs on the worker threads,
 * for a signature takes as long to check as hashing the NAR of a small path, and each look at the disk half as long.
 */

import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { checkNarInfo } from '../nar/check-narinfo.ts';
import type { Compression } from '../nar/compression.ts';
import { type ErrorCode, isNarswarmError, NarswarmError } from '../nar/errors.ts';
import { type NarInfo, narInfoMaxBytes, parseNarInfo } from '../nar/narinfo.ts';
import type { PublicKey } from '../nar/signature.ts';
import { parseStoreHash } from '../nar/store-path.ts';
import { diskError } from '../store/disk-error.ts';
import { type FileVersion, versionOfSync } from '../store/file-version.ts';
import { narPathOf, printFingerprint } from './scan-fingerprint.ts';
import { realPathWithin, sourcePathOf } from './scan-path.ts';

export const narInfoSuffix = '.narinfo';

export interface NarInfoJob {
  /** Of the source. */
  readonly directory: string;
  /** `directory`, with all symbolic links followed. */
  readonly realDirectory: string;
  /** File name of the narinfo. */
  readonly narInfoName: string;
  readonly storeDir: string;
  /** See `policyTag`. */
  readonly policy: string;
  /** The fingerprint under which the catalog knows it. */
  readonly known: string | undefined;
}

/** Errors do not keep their class on the way between threads. */
export interface RefusalWords {
  code: ErrorCode;
  message: string;
  offset: number | undefined;
}

/** `unchanged`: the fingerprint is still the known one, and nothing was read. */
export type NarInfoRead =
  | 'unchanged'
  | { fingerprint: string; narInfo: NarInfo; compression: Compression; narPath: string; nar: FileVersion }
  | { fingerprint: string; refused: RefusalWords };

/** Step by step, it makes the fingerprint. */
interface Seen {
  narInfo: FileVersion | undefined;
  nar: FileVersion | undefined;
  narPath: string | undefined;
}

export function readNarInfo(job: NarInfoJob, trustedKeys: readonly PublicKey[]): NarInfoRead {
  const { policy } = job;
  const seen: Seen = { narInfo: undefined, nar: undefined, narPath: undefined };
  try {
    seen.narInfo = versionOfSync(join(job.directory, job.narInfoName));
    if (job.known !== undefined && isUnchanged(job, job.known, seen.narInfo)) return 'unchanged';
    const narInfo = parse(job, seen.narInfo);
    const compression = checkNarInfo(narInfo, job.narInfoName, job.storeDir, trustedKeys);
    const narPath = sourcePathOf(narInfo.url);
    seen.narPath = narPath;
    const path = join(job.directory, narPath);
    const nar = versionOfSync(path);
    seen.nar = nar;
    if (realPathWithin(job.realDirectory, path) === undefined || nar === undefined) {
      throw new NarswarmError('nar-file-missing', `there is no file ${narPath}`);
    }
    return { fingerprint: printFingerprint({ ...seen, policy }), narInfo, compression, narPath, nar };
  } catch (error) {
    if (!isNarswarmError(error)) throw error;
    const { code, message, offset } = error;
    return { fingerprint: printFingerprint({ ...seen, policy }), refused: { code, message, offset } };
  }
}

function isUnchanged(job: NarInfoJob, fingerprint: string, narInfo: FileVersion | undefined): boolean {
  const before = narPathOf(fingerprint);
  if (before === undefined) return false;
  const { narPath } = before;
  const nar = narPath === undefined ? undefined : versionOfSync(join(job.directory, narPath));
  return printFingerprint({ narInfo, nar, narPath, policy: job.policy }) === fingerprint;
}

function parse(
  { directory, realDirectory, narInfoName: name }: NarInfoJob,
  version: FileVersion | undefined,
): NarInfo {
  checkName(name);
  if (version?.isFile !== true) throw new NarswarmError('narinfo-corrupt', `${name} is no file`);
  const path = join(directory, name);
  if (realPathWithin(realDirectory, path) === undefined) {
    throw new NarswarmError('not-held', `${name} went away`);
  }
  try {
    return parseNarInfo(readSmall(path, narInfoMaxBytes));
  } catch (cause) {
    throw diskError(`read ${name}`, cause);
  }
}

function checkName(name: string): void {
  try {
    parseStoreHash(name.slice(0, -narInfoSuffix.length));
  } catch (cause) {
    if (!isNarswarmError(cause)) throw cause;
    throw new NarswarmError('narinfo-corrupt', `${name.slice(0, 100)} is not named after a store path`, {
      cause,
    });
  }
}

/** A file of at most `maxBytes`; a longer one is cut one byte later, so that its parser refuses it. */
export function readSmall(path: string, maxBytes: number): Buffer {
  const file = openSync(path, 'r');
  try {
    const { size } = fstatSync(file);
    const buffer = Buffer.allocUnsafe(Math.min(size, maxBytes + 1));
    let filled = 0;
    while (filled < buffer.length) {
      const bytesRead = readSync(file, buffer, filled, buffer.length - filled, filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    return buffer.subarray(0, filled);
  } finally {
    closeSync(file);
  }
}
