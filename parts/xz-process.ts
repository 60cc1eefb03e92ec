/** How `xz` is started, fed and understood. */

import type { Readable, Writable } from 'node:stream';
import { NarswarmError } from '../nar/errors.ts';
import { xzMemoryMaxBytes } from '../upstream/xz.ts';

/** Characters of what `xz` says that go into an error. */
const messageMaxCharacters = 200;

export const xzCommand = [
  'xz',
  '--decompress',
  '--stdout',
  '--format=xz',
  '--quiet',
  `--memlimit-decompress=${xzMemoryMaxBytes}`,
] as const;

/** Nothing else of ours: XZ_OPT would change what these flags mean. */
export function xzEnvironment(): NodeJS.ProcessEnv {
  const { PATH } = process.env;
  return { ...(PATH === undefined ? {} : { PATH }), LC_ALL: 'C' };
}

/** What it says on its standard error. */
export class MessageOf {
  text = '';

  constructor(stderr: Readable) {
    stderr.setEncoding('utf8').on('data', (text: string) => {
      this.text = (this.text + text).slice(0, messageMaxCharacters);
    });
  }
}

export function xzFailed(message: string, status: number): NarswarmError {
  return new NarswarmError('decompression-failed', `xz: ${message.trim() || `xz ended with ${status}`}`);
}

/** Writes all of `input`, or as much as is taken. A chunk is no longer needed when the next one is asked for. */
export async function feed(to: Writable, input: AsyncIterable<Buffer>): Promise<void> {
  if (to.destroyed) return;
  let wake = (): void => undefined;
  const onClose = (): void => wake();
  to.once('close', onClose);
  try {
    for await (const bytes of input) {
      if (to.destroyed) return;
      // Waits until the bytes are written: the buffer may be filled again after that.
      await new Promise<void>((resolve) => {
        wake = resolve;
        to.write(bytes, () => resolve());
      });
      if (to.destroyed) return;
    }
  } finally {
    to.off('close', onClose);
  }
}
