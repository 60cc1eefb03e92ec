/** The one file that is served under attack. */

/** The bytes of the one file that is served: made anew by whoever compares. */
export function hostileContent(lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes);
  for (let at = 0; at + 4 <= lengthBytes; at += 4) bytes.writeUInt32LE((at * 2_654_435_761) >>> 0, at);
  return bytes;
}

export const hostileFileBytes = 4 * 1024 * 1024;
