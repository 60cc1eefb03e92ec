/** `POST /resolve`: many FileHashes in, for each one that is known a line of JSON out. */

import type { IncomingMessage, ServerResponse } from 'node:http';
import { setImmediate } from 'node:timers/promises';
import type { Router } from 'express';
import { z } from 'zod';
import { parseSha256, type Sha256 } from '../nar/hash.ts';
import { jsonBody } from './json-body.ts';

/** One closure of a large system is about 5,000 paths; more is asked in another request. */
export const resolveMaxFileHashes = 5_000;
/** Lines between which others get their turn: 5 ms of work. */
const turnLines = 64;
/** 5,000 hashes with `sha256:` in JSON are 320 KB. */
export const resolveMaxBodyBytes = 512 * 1024;
/** Hashes that are parsed between which others get their turn: 5 ms for the first ones, a tenth of that later. */
const parseTurnHashes = 500;

export const resolveRequest = z.object({ fileHashes: z.array(z.string()).max(resolveMaxFileHashes) });

/** `line`: the answer for one FileHash, with its newline; `undefined` when it is not known. */
export function addResolve(
  router: Router,
  line: (fileHash: Sha256, request: IncomingMessage) => string | undefined,
): void {
  router.post('/resolve', jsonBody(resolveMaxBodyBytes), async (request, response) => {
    const refuse = (why: string): void => void response.status(400).type('text/plain').send(`${why}\n`);
    const wanted = resolveRequest.safeParse(request.body);
    if (!wanted.success) return refuse(explain(wanted.error.issues));
    response.setHeader('Content-Type', 'application/x-ndjson');
    response.setHeader('Cache-Control', 'no-store');
    const fileHashes = await parseInTurns(wanted.data.fileHashes);
    if ('badIndex' in fileHashes) return refuse(`fileHashes.${fileHashes.badIndex}: not a SHA-256 hash`);
    for (let at = 0; at < fileHashes.length; at += turnLines) {
      const some = fileHashes.slice(at, at + turnLines);
      const lines = some.map((fileHash) => line(fileHash, request) ?? '').join('');
      if (lines !== '' && !response.write(lines)) await drained(response);
      // A socket that takes everything at once drains without anyone else's turn.
      await setImmediate();
      if (response.destroyed) return;
    }
    response.end();
  });
}

/** The hashes that were asked for, or where the first one is that is none. */
async function parseInTurns(texts: readonly string[]): Promise<Sha256[] | { badIndex: number }> {
  const hashes: Sha256[] = [];
  for (const [index, text] of texts.entries()) {
    try {
      hashes.push(parseSha256(text));
    } catch {
      return { badIndex: index };
    }
    if (index % parseTurnHashes === parseTurnHashes - 1) await setImmediate();
  }
  return hashes;
}

async function drained(response: ServerResponse): Promise<void> {
  await new Promise<void>((resolve) => {
    const done = (): void => {
      response.off('drain', done);
      response.off('close', done);
      resolve();
    };
    response.on('drain', done);
    response.on('close', done);
  });
}

function explain(issues: readonly { path: PropertyKey[]; message: string }[]): string {
  const [first] = issues;
  return first === undefined ? 'not a request' : `${first.path.map(String).join('.')}: ${first.message}`;
}
