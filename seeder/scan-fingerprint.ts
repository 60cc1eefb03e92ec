/** By what the scanner of a directory sees that nothing has changed, without reading a byte. */

import { type FileVersion, printVersion } from '../store/file-version.ts';

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
