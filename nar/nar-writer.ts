/** The pieces of which a NAR is made. The walk over a directory, which needs a disk, is `store/nar-dump.ts`. */

/** `str(s)`: the length as 64 bits, little-endian, the bytes, and zeros up to a multiple of 8. */
export function narString(text: string | Uint8Array): Buffer {
  const bytes = typeof text === 'string' ? Buffer.from(text) : text;
  const string = Buffer.alloc(8 + bytes.length + narPaddingBytes(bytes.length));
  string.writeBigUInt64LE(BigInt(bytes.length), 0);
  string.set(bytes, 8);
  return string;
}

/** Zeros that follow `lengthBytes` bytes: 0 to 7. */
export function narPaddingBytes(lengthBytes: number): number {
  return (8 - (lengthBytes % 8)) % 8;
}

export const narMagic = narString('nix-archive-1');

/** What comes before a regular file's contents; they are followed by padding and by `narNodeEnd`. */
export function narRegularStart(sizeBytes: number, executable: boolean): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(sizeBytes), 0);
  return Buffer.concat([
    ...['(', 'type', 'regular', ...(executable ? ['executable', ''] : []), 'contents'].map(narString),
    length,
  ]);
}

export function narSymlink(target: string | Uint8Array): Buffer {
  return Buffer.concat(['(', 'type', 'symlink', 'target', target, ')'].map(narString));
}

export const narDirectoryStart = Buffer.concat(['(', 'type', 'directory'].map(narString));

/** What comes before the node of an entry, which is followed by `narNodeEnd`. Entries come in the order of their names' bytes. */
export function narEntryStart(name: string | Uint8Array): Buffer {
  return Buffer.concat(['entry', '(', 'name', name, 'node'].map(narString));
}

/** Closes a regular file, a directory, or an entry. */
export const narNodeEnd = narString(')');
