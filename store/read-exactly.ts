import type { FileHandle } from 'node:fs/promises';
import { NarswarmError } from '../nar/errors.ts';
import { diskError } from './disk-error.ts';

/** So many bytes of a file that has them, into `memory` if there is some. Throws not-held when it has fewer by now, and store-failed. */
export async function readExactly(
  file: FileHandle,
  position: number,
  lengthBytes: number,
  name: string,
  memory?: Buffer,
): Promise<Buffer> {
  const buffer = memory?.subarray(0, lengthBytes) ?? Buffer.allocUnsafe(lengthBytes);
  let filled = 0;
  while (filled < lengthBytes) {
    let bytesRead: number;
    try {
      ({ bytesRead } = await file.read(buffer, filled, lengthBytes - filled, position + filled));
    } catch (cause) {
      throw diskError(`read ${name}`, cause);
    }
    if (bytesRead === 0) throw new NarswarmError('not-held', `${name} has become shorter while it was read`);
    filled += bytesRead;
  }
  return buffer;
}
