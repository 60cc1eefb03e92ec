/** One `POST /resolve` to one catalog: its lines as they arrive, within bounds. */

import { type IncomingMessage, request } from 'node:http';
import { request as requestTls } from 'node:https';
import { NarswarmError } from '../nar/errors.ts';
import { printSha256, type Sha256 } from '../nar/hash.ts';

/** FileHashes in one request: a closure's worth of small NAR files, and still an answer of bounded size. */
export const resolveBatch = 1_000;

/** The info dictionary of the largest torrent has 5 MiB, a third more in base64. */
const lineMaxBytes = 8 * 1024 * 1024;

/** An ordinary line is about 1 KiB, that of a 4 GiB NAR 28 KiB. */
const answerMaxBytes = 32 * 1024 * 1024;

export interface ResolveLine {
  readonly text: string;
  /** The address that was asked; see named-peers.ts. */
  readonly askedAt: string | undefined;
}

/** At most a line for each hash. Throws upstream-failed when the catalog does not answer properly. A 404 means that it is no catalog, not an empty one. */
export async function* fetchResolveLines(
  catalog: string,
  fileHashes: readonly Sha256[],
  signal: AbortSignal,
): AsyncGenerator<ResolveLine> {
  const url = `${catalog}/resolve`;
  let received = 0;
  let given = 0;
  /** Of a line that is not whole yet. */
  let parts: string[] = [];
  let partsLength = 0;
  try {
    const body = JSON.stringify({ fileHashes: fileHashes.map(printSha256) });
    const { answer, askedAt } = await post(new URL(url), body, signal);
    if (answer.statusCode !== 200) {
      answer.destroy();
      throw new NarswarmError('upstream-failed', `${url} answered ${answer.statusCode}`);
    }
    answer.setEncoding('utf8');
    for await (const text of answer as AsyncIterable<string>) {
      received += text.length;
      const ends = text.split('\n');
      const rest = ends.pop() ?? '';
      if (received > answerMaxBytes || partsLength + rest.length > lineMaxBytes) {
        throw new NarswarmError('upstream-failed', `${url} answered more than it may`);
      }
      for (const end of ends) {
        const line = parts.length === 0 ? end : parts.join('') + end;
        parts = [];
        partsLength = 0;
        if (line === '') continue;
        if (++given > fileHashes.length)
          throw new NarswarmError('upstream-failed', `${url} answered more than it was asked`);
        yield { text: line, askedAt };
      }
      if (rest === '') continue;
      parts.push(rest);
      partsLength += rest.length;
    }
  } catch (cause) {
    if (cause instanceof NarswarmError) throw cause;
    throw new NarswarmError('upstream-failed', `${url} gave no answer`, { cause });
  }
  if (parts.length > 0)
    throw new NarswarmError('upstream-failed', `${url} broke off in the middle of a line`);
}

/** Redirects are not followed, and nothing is decoded that was compressed. */
function post(
  url: URL,
  body: string,
  signal: AbortSignal,
): Promise<{ answer: IncomingMessage; askedAt: string | undefined }> {
  const send = url.protocol === 'https:' ? requestTls : request;
  const headers = {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
    'user-agent': 'narswarm',
  };
  return new Promise((resolve, reject) => {
    const outgoing = send(url, { method: 'POST', headers, signal }, (answer) =>
      resolve({ answer, askedAt: answer.socket.remoteAddress }),
    );
    // What comes after the answer has begun is an error of its body, too.
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}
