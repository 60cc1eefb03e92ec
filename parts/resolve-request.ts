/** One `POST /resolve` to one catalog: its lines as they arrive, within bounds. */

import { NarswarmError } from '../nar/errors.ts';
import { printSha256, type Sha256 } from '../nar/hash.ts';

/** FileHashes in one request: a closure's worth of small NAR files, and still an answer of bounded size. */
export const resolveBatch = 1_000;

/** The info dictionary of the largest torrent has 5 MiB, a third more in base64. */
const lineMaxBytes = 8 * 1024 * 1024;

/** An ordinary line is about 1 KiB, that of a 4 GiB NAR 28 KiB. */
const answerMaxBytes = 32 * 1024 * 1024;

/** At most a line for each hash. Throws upstream-failed when the catalog does not answer properly. A 404 means that it is no catalog, not an empty one. */
export async function* fetchResolveLines(
  catalog: string,
  fileHashes: readonly Sha256[],
  signal: AbortSignal,
): AsyncGenerator<string> {
  const url = `${catalog}/resolve`;
  let received = 0;
  let given = 0;
  let rest = '';
  try {
    const answer = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ fileHashes: fileHashes.map(printSha256) }),
      redirect: 'error',
      signal,
    });
    if (!answer.ok || answer.body === null) {
      await answer.body?.cancel();
      throw new NarswarmError('upstream-failed', `${url} answered ${answer.status}`);
    }
    const decoder = new TextDecoder();
    for await (const chunk of answer.body) {
      const text = decoder.decode(chunk, { stream: true });
      received += text.length;
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      if (received > answerMaxBytes || rest.length > lineMaxBytes) {
        throw new NarswarmError('upstream-failed', `${url} answered more than it may`);
      }
      for (const line of lines) {
        if (line === '') continue;
        if (++given > fileHashes.length)
          throw new NarswarmError('upstream-failed', `${url} answered more than it was asked`);
        yield line;
      }
    }
  } catch (cause) {
    if (cause instanceof NarswarmError) throw cause;
    throw new NarswarmError('upstream-failed', `${url} gave no answer`, { cause });
  }
  if (rest !== '') throw new NarswarmError('upstream-failed', `${url} broke off in the middle of a line`);
}
