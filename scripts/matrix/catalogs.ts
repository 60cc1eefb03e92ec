/** The catalog of a cell: a web server in front of a real seeder, which names the peers of the cell's swarm and is what its state says. */

import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { parseHead, signHead } from '../../catalog/head.ts';
import { parseTorrentInfo, printTorrentInfo, signTorrentInfo } from '../../catalog/torrentinfo.ts';
import { makeNarInfo, parseNarInfo } from '../../nar/narinfo.ts';
import { secretKeyFromSeed, signNarInfo } from '../../nar/signature.ts';
import type { MatrixLab } from './lab.ts';
import type { CatalogState } from './states.ts';

export interface MatrixCatalog {
  readonly url: string;
  close(): Promise<void>;
}

/** Nothing listens there. */
export const deadAddress = '127.0.0.1:9';
const staleHeadSeconds = 3_600;

/** `peersOf` gives the peers (`host:port`) of a NAR file by its FileHash; `gone` says of which a stale catalog knows nothing. */
export async function openCatalog(
  lab: MatrixLab,
  state: CatalogState,
  peersOf: (fileHash: string) => readonly string[],
): Promise<MatrixCatalog> {
  if (state === 'down') return { url: `http://${deadAddress}`, close: async () => undefined };
  const front = new Front(lab, state, peersOf);
  const server = createServer((request, response) => {
    front.answer(request, response).catch(() => response.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

class Front {
  readonly #lab: MatrixLab;
  readonly #state: CatalogState;
  readonly #peersOf: (fileHash: string) => readonly string[];
  /** Of another cache and another catalog, under the names of ours. */
  readonly #strangers: {
    cache: ReturnType<typeof secretKeyFromSeed>;
    catalog: ReturnType<typeof secretKeyFromSeed>;
  };

  constructor(lab: MatrixLab, state: CatalogState, peersOf: (fileHash: string) => readonly string[]) {
    this.#lab = lab;
    this.#state = state;
    this.#peersOf = peersOf;
    const seed = Buffer.alloc(32, 9);
    this.#strangers = {
      cache: secretKeyFromSeed(lab.cache.publicKey.name, seed),
      catalog: secretKeyFromSeed(lab.catalogKey.publicKey.name, seed),
    };
  }

  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = 'GET', url = '/' } = request;
    // The swarm is what is to be seen, not the seeder's web server.
    if (url.startsWith('/nar/')) {
      response.writeHead(404).end();
      return;
    }
    const body = method === 'POST' ? new Uint8Array(await buffer(request)) : undefined;
    const type = request.headers['content-type'];
    const answer = await fetch(`${this.#lab.seeder.url}${url}`, {
      method,
      ...(body === undefined ? {} : { body }),
      ...(type === undefined ? {} : { headers: { 'content-type': type } }),
    });
    const given = Buffer.from(await answer.arrayBuffer());
    const changed = answer.ok ? this.#change(url, given) : given;
    response.writeHead(changed === undefined ? 404 : answer.status, {
      'content-type': answer.headers.get('content-type') ?? 'application/octet-stream',
    });
    response.end(method === 'HEAD' ? undefined : changed);
  }

  #change(url: string, given: Buffer): Buffer | undefined {
    if (url === '/resolve') return Buffer.from(this.#resolved(given.toString()));
    if (url === '/catalog/head') return Buffer.from(this.#head(given.toString()));
    if (url.endsWith('.narinfo')) return this.#narInfo(given.toString());
    return given;
  }

  #resolved(text: string): string {
    const lines: string[] = [];
    for (const line of text.split('\n')) {
      if (line === '') continue;
      const parsed = JSON.parse(line) as { fileHash: string; torrentinfo: string };
      const { fileHash } = parsed;
      let peers = this.#peersOf(fileHash);
      if (this.#state === 'stale') {
        if (this.#lab.isGone(fileHash)) continue;
        peers = [deadAddress, ...peers];
      }
      if (this.#state === 'forged') {
        const info = parseTorrentInfo(parsed.torrentinfo);
        parsed.torrentinfo = printTorrentInfo(
          signTorrentInfo({ ...info, sigs: [] }, this.#strangers.catalog),
        );
      }
      lines.push(`${JSON.stringify({ ...parsed, peers })}\n`);
    }
    return lines.join('');
  }

  #head(text: string): string {
    const head = parseHead(text);
    if (this.#state === 'forged') return signHead(head, [this.#strangers.catalog]);
    if (this.#state !== 'stale') return text;
    const { time } = head;
    const old = { time: time - 2 * staleHeadSeconds, expires: time - staleHeadSeconds };
    return signHead({ ...head, ...old }, [this.#lab.catalogKey]);
  }

  #narInfo(text: string): Buffer | undefined {
    const narInfo = parseNarInfo(text);
    const { fileHash } = narInfo;
    if (this.#state === 'stale' && fileHash !== undefined && this.#lab.isGone(fileHash)) return undefined;
    if (this.#state !== 'forged') return Buffer.from(text);
    return Buffer.from(signNarInfo(makeNarInfo({ ...narInfo, sigs: [] }), this.#strangers.cache).text);
  }
}
