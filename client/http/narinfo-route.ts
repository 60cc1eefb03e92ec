/**
 * Answers requests for narinfos, before express: Nix asks for those of a whole closure at once, and what express does for each request takes
 * several times as long as finding one that is at hand.
 */

import type { IncomingMessage, ServerResponse } from 'node:http';
import type { StoreHash } from '../../nar/store-path.ts';
import { sendNotFound } from '../../web/app.ts';
import type { Logger } from '../../web/log.ts';
import { sendText } from '../../web/send.ts';
import { type ShortAnswer, shortHead, shortNotFound } from '../../web/short-requests.ts';
import { storeHashOfNarInfoName } from '../local-url.ts';
import type { NarInfoFinder } from '../narinfo/narinfo.ts';
import type { GivenNarInfo } from '../state/state.ts';

const contentType = 'text/x-nix-narinfo';
/** As `sendText` gives them. */
const headers = { 'Accept-Ranges': 'bytes', 'Cache-Control': 'no-transform', 'Content-Type': contentType };
const head = shortHead('200 OK', headers);

export interface NarInfoRouteOptions {
  narInfos: Pick<NarInfoFinder, 'ready' | 'find' | 'findViewed' | 'findElsewhere'>;
  /** A narinfo is about to be given out. */
  onGiven(given: GivenNarInfo): void;
  logger: Logger;
}

/** The path that a GET or HEAD asks the narinfo of; `undefined` for anything else, also when the URL is written in another way. */
export function askedNarInfo({ method, url = '' }: IncomingMessage): StoreHash | undefined {
  if (method !== 'GET' && method !== 'HEAD') return undefined;
  return storeHashOfNarInfoName(url.slice(1));
}

/** For a GET that Node need not read: see web/short-requests.ts. The answer is the same. No browser's is among them, so that none is of a strange page. */
export function shortNarInfo(
  target: string,
  send: (answer: ShortAnswer) => void,
  options: NarInfoRouteOptions,
): boolean {
  const storeHash = storeHashOfNarInfoName(target.slice(1));
  if (storeHash === undefined) return false;
  const { narInfos } = options;
  const give = (given: GivenNarInfo | 'absent'): void => send(shortAnswer(storeHash, given, options));
  const ready = narInfos.ready(storeHash);
  if (ready !== undefined) {
    give(ready);
    return true;
  }
  try {
    if (!narInfos.findViewed(storeHash, (given) => give(given ?? 'absent')))
      void findShort(storeHash, options).then(send);
  } catch (error) {
    send(failed(storeHash, error, options));
  }
  return true;
}

async function findShort(storeHash: StoreHash, options: NarInfoRouteOptions): Promise<ShortAnswer> {
  try {
    return shortAnswer(storeHash, (await options.narInfos.findElsewhere(storeHash)) ?? 'absent', options);
  } catch (error) {
    return failed(storeHash, error, options);
  }
}

function shortAnswer(
  storeHash: StoreHash,
  given: GivenNarInfo | 'absent',
  options: NarInfoRouteOptions,
): ShortAnswer {
  if (given === 'absent') return shortNotFound;
  try {
    options.onGiven(given);
  } catch (error) {
    return failed(storeHash, error, options);
  }
  return { head, text: given.narInfo.text };
}

function failed(storeHash: StoreHash, error: unknown, { logger }: NarInfoRouteOptions): ShortAnswer {
  logger.warn('request-failed', { method: 'GET', path: `/${storeHash}.narinfo`, error });
  return shortNotFound;
}

/** 404 when nobody has it, whoever failed: Nix goes on elsewhere on a 404 and on nothing else. Never rejects. */
export async function answerNarInfo(
  request: IncomingMessage,
  response: ServerResponse,
  storeHash: StoreHash,
  { narInfos, onGiven, logger }: NarInfoRouteOptions,
): Promise<void> {
  try {
    const given = narInfos.ready(storeHash) ?? (await narInfos.find(storeHash)) ?? 'absent';
    if (!response.destroyed) await send(request, response, given, onGiven);
  } catch (error) {
    logger.warn('request-failed', { method: request.method, path: request.url, error });
    if (response.headersSent) response.destroy();
    else sendNotFound(response);
  }
}

async function send(
  request: IncomingMessage,
  response: ServerResponse,
  given: GivenNarInfo | 'absent',
  onGiven: NarInfoRouteOptions['onGiven'],
): Promise<void> {
  if (given === 'absent') {
    sendNotFound(response);
    return;
  }
  onGiven(given);
  const { text } = given.narInfo;
  if (request.headers.range !== undefined) {
    await sendText(request, response, text, contentType);
    return;
  }
  response.writeHead(200, { ...headers, 'Content-Length': Buffer.byteLength(text) });
  // As text, since Node sends that in one piece with the head.
  if (request.method === 'HEAD') response.end();
  else response.end(text);
}
