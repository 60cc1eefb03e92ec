/** How a store path came here, or why it did not: everything that this client still knows of it. `/_narswarm/why/<word>`. */

import { isNarswarmError } from '../../nar/errors.ts';
import type { Sha256 } from '../../nar/hash.ts';
import { parseStoreHash, type StoreHash } from '../../nar/store-path.ts';
import type { Router } from '../../web/app.ts';
import { sendText } from '../../web/send.ts';
import { ownPrefix } from '../local-url.ts';
import type { Views } from '../narinfo/views.ts';
import type { ClientState } from '../state/state.ts';
import type { NarStory } from '../story.ts';
import type { History } from './history.ts';

/** Store paths that one answer is about: whoever means one of many has to say which. */
export const whyPathsMax = 10;
const wordMaxCharacters = 211;

/** What is known of one store path. */
export interface WhyPath {
  storeHash: StoreHash;
  /** Missing when nothing at all is known. */
  storePath?: string;
  fileHash?: Sha256;
  sizeBytes?: number;
  /** Base URL of the cache or catalog whose narinfo was given to Nix last; missing when Nix never asked. */
  narInfoFrom?: string;
  /** When that was, in milliseconds since 1970. */
  narInfoMs?: number | undefined;
  /** It is in a view of a catalog that is held here. */
  viewed: boolean;
  /** Its NAR file is kept here. */
  held: boolean;
  /** Its NAR file was taken back. */
  revoked?: { reason: string; timeMs: number };
  /** Of the fetches of its NAR file, the newest first. */
  stories: NarStory[];
}

export interface WhyAnswer {
  paths: WhyPath[];
  /** There are more than are told of. */
  more: boolean;
}

export interface WhyOptions {
  history: Pick<History, 'ofStoreHash' | 'search'>;
  state: Pick<ClientState, 'givenByStoreHash' | 'held'>;
  views: Pick<Views, 'narInfo' | 'revoked'>;
}

export class Why {
  readonly #options: WhyOptions;

  constructor(options: WhyOptions) {
    this.#options = options;
  }

  /** `word`: a store hash, a FileHash, or a name as in `hello` or `hello-2.12`. */
  answer(word: string): WhyAnswer {
    const storeHash = storeHashIn(word);
    if (storeHash !== undefined) return { paths: [this.#path(storeHash)], more: false };
    if (word.length > wordMaxCharacters) return { paths: [], more: false };
    const found = this.#options.history.search(word, whyPathsMax + 1);
    return {
      paths: found.slice(0, whyPathsMax).map((each) => this.#path(each)),
      more: found.length > whyPathsMax,
    };
  }

  #path(storeHash: StoreHash): WhyPath {
    const { history, state, views } = this.#options;
    const stories = history.ofStoreHash(storeHash);
    const { given, atMs } = state.givenByStoreHash(storeHash) ?? {};
    const fileHash = given?.narInfo.fileHash ?? stories[0]?.fileHash;
    const storePath = given?.narInfo.storePath ?? stories[0]?.storePath;
    const held = fileHash && state.held(fileHash);
    const sizeBytes = given?.narInfo.fileSize ?? held?.sizeBytes ?? stories[0]?.sizeBytes;
    const revoked = fileHash && views.revoked(fileHash);
    return {
      storeHash,
      ...(storePath !== undefined && { storePath }),
      ...(fileHash !== undefined && { fileHash }),
      ...(sizeBytes !== undefined && { sizeBytes }),
      ...(given && { narInfoFrom: given.origin, narInfoMs: atMs }),
      viewed: views.narInfo(storeHash) !== undefined,
      held: held !== undefined,
      ...(revoked && { revoked: { reason: revoked.reason, timeMs: revoked.time * 1_000 } }),
      stories,
    };
  }
}

export function addWhyRoute(router: Router, why: Why): void {
  router.get(`/${ownPrefix}why/:word`, async (request, response) => {
    const text = `${JSON.stringify(why.answer(request.params.word))}\n`;
    response.setHeader('Cache-Control', 'no-store');
    await sendText(request, response, text, 'application/json');
  });
}

/** In a store hash, or at the start of a store path or its name. */
function storeHashIn(word: string): StoreHash | undefined {
  try {
    return parseStoreHash(word);
  } catch (error) {
    if (isNarswarmError(error)) return undefined;
    throw error;
  }
}
