/** Answers requests for NAR files, and passes on what this client knows nothing about. */

import type { IncomingMessage, ServerResponse } from 'node:http';
import { isNarswarmError, NarswarmError } from '../../nar/errors.ts';
import type { Sha256 } from '../../nar/hash.ts';
import type { StoreHash } from '../../nar/store-path.ts';
import type { NarFileHandle } from '../../store/nar-file-store.ts';
import type { HttpCache } from '../../upstream/http-cache.ts';
import type { Logger } from '../../web/log.ts';
import { type SendSource, sendFile } from '../../web/send.ts';
import type { CachesInOrder } from '../asking/upstreams.ts';
import type { ClientLimits } from '../config.ts';
import type { Counts } from '../counts.ts';
import type { NarReader } from '../fetch/nar-job.ts';
import type { Transfers } from '../fetch/transfers.ts';
import { isOwnNarKey, ownPrefix } from '../local-url.ts';
import type { HeldFiles } from '../state/cache.ts';
import { HeldReader } from '../state/held-reader.ts';
import type { ClientState, GivenNarInfo } from '../state/state.ts';
import { passThrough } from './passthrough.ts';

/** Made once: an abort without a reason makes an exception with a stack each time. */
const readerGone = new NarswarmError('aborted', 'nobody reads any more');

export interface NarServerOptions {
  state: ClientState;
  held: HeldFiles;
  transfers: Transfers;
  caches: CachesInOrder;
  counts: Counts;
  /** Nix asks for a NAR file, and is being answered from what is here or being fetched. */
  onAsked(fileHash: Sha256): void;
  /** A catalog has said that it is not to be used. */
  isRevoked(fileHash: Sha256): boolean;
  /** A NAR file could not be given as its narinfo says. */
  onFailed(storeHash: StoreHash): void;
  limits: ClientLimits;
  logger: Logger;
}

export class NarServer {
  readonly #options: NarServerOptions;

  constructor(options: NarServerOptions) {
    this.#options = options;
  }

  /** False when nobody has it, and then nothing was sent. Rejects only when the answer was broken off, or before it began. */
  async answer(request: IncomingMessage, response: ServerResponse, urlKey: string): Promise<boolean> {
    const given = this.#options.state.givenByUrl(urlKey);
    if (given !== undefined) {
      let answered = false;
      try {
        answered = await this.#answerGiven(request, response, given);
        return answered;
      } finally {
        if (!answered) this.#options.onFailed(given.storeHash);
      }
    }
    if (isOwnNarKey(urlKey) || urlKey.startsWith(ownPrefix)) return false;
    const { awake } = this.#options.caches;
    // Always below the upstream's own URL: whoever asks for `/http://10.0.0.1/` is not taken there.
    return this.#pass(
      request,
      response,
      awake.map((cache) => ({ cache, url: `./${urlKey}` })),
    );
  }

  async #answerGiven(
    request: IncomingMessage,
    response: ServerResponse,
    given: GivenNarInfo,
  ): Promise<boolean> {
    const { fileHash } = given.narInfo;
    if (fileHash === undefined) return this.#passGiven(request, response, given);
    if (this.#options.isRevoked(fileHash)) return false;
    return this.#answerNar(request, response, given, fileHash);
  }

  async #answerNar(
    request: IncomingMessage,
    response: ServerResponse,
    given: GivenNarInfo,
    fileHash: Sha256,
  ): Promise<boolean> {
    const { transfers, onAsked } = this.#options;
    const { fileSize } = given.narInfo;
    if (request.method === 'HEAD') {
      if (fileSize === undefined) return this.#passGiven(request, response, given);
      // Nothing is fetched for it; what it promises is what the narinfo promised.
      await sendFile(request, response, narSource(fileHash, fileSize, noRead));
      return true;
    }
    const running = transfers.running(fileHash);
    if (running !== undefined) {
      onAsked(fileHash);
      return this.#follow(request, response, { given, fileHash, reader: running });
    }
    if (await this.#sendHeld(request, response, fileHash)) return true;
    const reader = transfers.join(given, fileHash);
    onAsked(fileHash);
    return this.#follow(request, response, { given, fileHash, reader });
  }

  /** False when it is not held, or not any more as it was, and nothing was sent. Rejects when the answer was broken off. */
  async #sendHeld(request: IncomingMessage, response: ServerResponse, fileHash: Sha256): Promise<boolean> {
    const { held, counts, logger, onAsked } = this.#options;
    let file: NarFileHandle | undefined;
    try {
      file = await held.open(fileHash);
      if (file === undefined) return false;
      onAsked(fileHash);
      const reader = new HeldReader(file, fileHash);
      const read: SendSource['read'] = (position, length) => reader.read(position, length);
      const { sentBytes } = await sendFile(request, response, narSource(fileHash, file.sizeBytes, read));
      counts.bytes.held += sentBytes;
      if (sentBytes > 0) counts.nars.held++;
      return true;
    } catch (error) {
      if (!isNarswarmError(error)) throw error;
      logger.warn('held-file-failed', { fileHash, error });
      // One that cannot be opened may be there all the same when files are scarce no more.
      if (file !== undefined) await held.drop(fileHash);
      if (response.headersSent) throw error;
      return false;
    } finally {
      await file?.close();
    }
  }

  /** Sends what a running fetch releases. Its first bytes are waited for, so that a failure can still become a 404. */
  async #follow(
    request: IncomingMessage,
    response: ServerResponse,
    { given, fileHash, reader }: { given: GivenNarInfo; fileHash: Sha256; reader: NarReader },
  ): Promise<boolean> {
    const gone = new AbortController();
    const onClose = (): void => gone.abort(readerGone);
    response.once('close', onClose);
    try {
      if (reader.sizeBytes === undefined) await reader.waitFor(0, gone.signal);
      const { sizeBytes } = reader;
      if (sizeBytes === undefined) await sendUnsized(response, reader, fileHash, gone.signal);
      else {
        const read: SendSource['read'] = (position, length, signal) => reader.read(position, length, signal);
        const release = (bytes: Uint8Array): void => reader.release(bytes);
        await sendFile(request, response, { ...narSource(fileHash, sizeBytes, read), release });
      }
      return true;
    } catch (error) {
      if (gone.signal.aborted) return true;
      if (response.headersSent) throw error;
      // A disk that is full or broken is no reason why Nix should not get the file.
      if (isNarswarmError(error, 'store-failed')) return await this.#passGiven(request, response, given);
      if (isNarswarmError(error)) return false;
      throw error;
    } finally {
      response.off('close', onClose);
      reader.close();
    }
  }

  /** A NAR file that cannot be verified, or not be kept meanwhile, from where its narinfo came from. */
  #passGiven(request: IncomingMessage, response: ServerResponse, given: GivenNarInfo): Promise<boolean> {
    const { upstreams, catalogCaches } = this.#options.caches;
    const origin = [...upstreams, ...catalogCaches].filter(({ url }) => url === given.origin);
    return this.#pass(
      request,
      response,
      origin.map((cache) => ({ cache, url: given.narUrl })),
    );
  }

  async #pass(
    request: IncomingMessage,
    response: ServerResponse,
    sources: { cache: HttpCache; url: string }[],
  ): Promise<boolean> {
    const { limits, logger, counts } = this.#options;
    const passed = await passThrough(request, response, { sources, stallMs: limits.httpStallMs, logger });
    if (passed) counts.passedThrough++;
    return passed;
  }
}

function narSource(fileHash: Sha256, sizeBytes: number, read: SendSource['read']): SendSource {
  // The same from whichever source, as FileHash names the bytes.
  return { sizeBytes, read, etag: fileHash, contentType: 'application/x-nix-nar' };
}

function noRead(): never {
  throw new Error('a HEAD reads nothing');
}

/** Largest read for an answer of unknown length. */
const unsizedReadBytes = 512 * 1024;

/** Without FileSize anywhere there is no Content-Length, and so no resuming; the end is that of the chunked encoding. */
async function sendUnsized(
  response: ServerResponse,
  reader: NarReader,
  fileHash: Sha256,
  signal: AbortSignal,
): Promise<void> {
  response.writeHead(200, {
    'Content-Type': 'application/x-nix-nar',
    'Cache-Control': 'no-transform',
    ETag: `"${fileHash}"`,
  });
  try {
    for (let position = 0; ; ) {
      const bytes = await reader.read(position, unsizedReadBytes, signal);
      if (bytes.length === 0) break;
      position += bytes.length;
      if (!response.write(bytes)) await drained(response, signal);
    }
    response.end();
  } catch (error) {
    response.destroy();
    throw error;
  }
}

function drained(response: ServerResponse, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    // Who has gone away takes nothing, and says so once.
    if (signal.aborted) return resolve();
    const done = (): void => {
      response.off('drain', done);
      signal.removeEventListener('abort', done);
      resolve();
    };
    response.on('drain', done);
    signal.addEventListener('abort', done);
  });
}
