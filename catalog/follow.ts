/**
 * Follows a catalog: fetches its head from whoever has it, checks it against the keys and against what was seen before,
 * and takes in the records that are new. Whoever hands it over can keep nothing back unnoticed but for a while: until
 * the head they hold expires.
 */

import { isNarswarmError, NarswarmError } from '../nar/errors.ts';
import type { InfoHash, Sha256 } from '../nar/hash.ts';
import { type PublicKey, parsePublicKey, printPublicKey } from '../nar/signature.ts';
import { Applier } from './applier.ts';
import { firstChain } from './chain.ts';
import { CatalogFiles } from './files.ts';
import type { FollowedCatalog } from './followed.ts';
import { type CatalogHead, type HeadSegment, type HeadView, parseHead, verifyHead } from './head.ts';

/** What a catalog comes over: HTTP, or a swarm. */
export interface CatalogTransport {
  /** `etag`: that of the answer which this transport gave before, when it was taken. */
  fetchHead(etag?: string, signal?: AbortSignal): Promise<{ text: string; etag?: string } | 'unchanged'>;
  /** The bytes of a file, which are checked here. Throws segment-missing when it has none. */
  fetchFile(
    file: { sha256: Sha256; sizeBytes: number; infoHash: InfoHash },
    signal?: AbortSignal,
  ): AsyncIterable<Buffer>;
}

export interface FollowOptions {
  /** Trusted before the first head; later those that the accepted head names, and what is added here since. */
  readonly keys: readonly PublicKey[];
  /** The one that the catalog must be for: `/nix/store`. */
  readonly nixStoreDir: string;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** Only the head is taken, none of its records: for whoever reads views alone. */
  readonly headOnly?: boolean;
  /** Where the files stay, for whoever serves them too; without it each goes once it is read. */
  readonly files?: CatalogFiles;
  readonly signal?: AbortSignal;
}

export interface FollowResult {
  readonly state: 'unchanged' | 'advanced';
  /** Records of the catalog now. */
  readonly records: number;
  /** Why an offered head was not taken, where another one was. */
  readonly refused: readonly NarswarmError[];
}

/** The tag of what each transport gave last, if it was taken. Only while the process runs: it saves a head, no more. */
const etags = new WeakMap<CatalogTransport, string>();

/**
 * Follows once. Of several transports the newest head that is valid counts, and a file comes from whichever has it.
 *
 * Throws, and changes nothing that was vouched for before, when no head can be taken: head-corrupt, catalog-gap,
 * store-dir-mismatch, head-untrusted, head-expired, catalog-rollback, catalog-fork, or what the transport throws; and
 * when its files are not what it says: segment-missing, segment-truncated, segment-mismatch, segment-corrupt,
 * record-corrupt, decompression-bomb. Segments that were taken in whole stay, also when the next is not to be had or the
 * process dies.
 */
export async function followCatalog(
  followed: FollowedCatalog,
  transport: CatalogTransport | readonly CatalogTransport[],
  options: FollowOptions,
): Promise<FollowResult> {
  const transports = 'fetchHead' in transport ? [transport] : transport;
  const judge = new Judge(followed, options);
  const offers = await Promise.all(transports.map((each) => fetchOffer(each, judge, options.signal)));
  const refused = offers.map(({ error }) => error).filter((error) => error !== undefined);
  const good = offers.filter((offer) => offer.error === undefined);
  const newest = good.reduce<Offer | undefined>(newer, undefined);
  if (newest === undefined) throw mostTelling(refused);
  // A head that nobody could take again is as frozen as one that is handed over again and again.
  if (newest.head === undefined) {
    judge.checkAge(judge.seen);
    return { state: 'unchanged', records: followed.records, refused };
  }
  const from = [newest.transport, ...transports.filter((each) => each !== newest.transport)];
  if (options.headOnly !== true) await takeIn(followed, from, newest.head, options);
  followed.accept({ headText: newest.head.text, configuredKeys: options.keys.map(printPublicKey) });
  const { signedText } = newest.head;
  for (const { transport: each, head, etag } of good) {
    if (etag !== undefined && head?.signedText === signedText) etags.set(each, etag);
  }
  const advanced = signedText !== judge.seen?.signedText;
  return { state: advanced ? 'advanced' : 'unchanged', records: newest.head.records, refused };
}

/**
 * Reads a view of a head that was accepted into a followed catalog of its own, whose records it replaces, unless that
 * has it already. Throws as `followCatalog` does for files.
 */
export async function readView(
  into: FollowedCatalog,
  transport: CatalogTransport | readonly CatalogTransport[],
  view: HeadView,
  options: Pick<FollowOptions, 'nixStoreDir' | 'files' | 'signal'>,
): Promise<{ state: 'unchanged' | 'advanced'; records: number }> {
  if (into.viewSha256 === view.sha256) return { state: 'unchanged', records: into.records };
  const transports = 'fetchHead' in transport ? [transport] : transport;
  const files = options.files ?? (await ownFiles(into));
  const applier = new Applier({ path: into.path, nixStoreDir: options.nixStoreDir });
  let useless = options.files === undefined;
  try {
    await fetchFile(files, transports, view, options.signal);
    const task = { kind: 'view', path: files.path(view.sha256), sha256: view.sha256 } as const;
    await applier.apply(task, view.sizeBytes);
  } catch (error) {
    useless ||= isUselessFile(error);
    throw error;
  } finally {
    await applier.close({ now: options.signal?.aborted === true });
    if (useless) await files.remove(view.sha256);
  }
  return { state: 'advanced', records: into.records };
}

/**
 * Fetches the segments of the accepted head that are not among `files`: those whose records came in other files, which were fused since.
 * Whoever serves the head is asked for all of them.
 */
export async function fetchSegments(
  followed: FollowedCatalog,
  transports: readonly CatalogTransport[],
  { files, signal }: { files: CatalogFiles; signal?: AbortSignal },
): Promise<void> {
  for (const segment of followed.head()?.segments ?? []) {
    signal?.throwIfAborted();
    await fetchFile(files, transports, segment, signal);
  }
}

/** Those that may sign the next head. */
export function trustedKeys(followed: FollowedCatalog, keys: readonly PublicKey[]): readonly PublicKey[] {
  const head = followed.head();
  if (head === undefined) return keys;
  const configured = followed.accepted()?.configuredKeys ?? [];
  // What was configured when a head was taken, and is not in it, was retired by it.
  const added = keys.filter((key) => !configured.includes(printPublicKey(key)));
  return [...head.keys.map(parsePublicKey), ...added];
}

/** Says whether a head may be taken. */
class Judge {
  readonly seen: CatalogHead | undefined;
  readonly #options: FollowOptions;
  readonly #keys: readonly PublicKey[];
  readonly #records: number;

  constructor(followed: FollowedCatalog, options: FollowOptions) {
    this.#options = options;
    this.seen = followed.head();
    this.#records = followed.records;
    this.#keys = trustedKeys(followed, options.keys);
  }

  /** The head that a text is. Throws as `followCatalog`. */
  head(text: string): CatalogHead {
    const head = parseHead(text);
    if (verifyHead(head, this.#keys) === undefined) {
      const names = this.#keys.map(({ name }) => name).join(', ');
      throw new NarswarmError(
        'head-untrusted',
        `the head of the catalog is signed by none of the keys ${names}`,
      );
    }
    const { nixStoreDir } = this.#options;
    if (head.nixStoreDir !== nixStoreDir) {
      throw new NarswarmError('store-dir-mismatch', `a catalog for ${head.nixStoreDir}, not ${nixStoreDir}`);
    }
    this.#checkPast(head);
    this.checkAge(head);
    return head;
  }

  checkAge(head: CatalogHead | undefined): void {
    if (head !== undefined && head.expires * 1000 > this.#options.now()) return;
    const when = head === undefined ? 'never' : new Date(head.expires * 1000).toISOString();
    throw new NarswarmError('head-expired', `the head of the catalog was valid until ${when}`);
  }

  #checkPast(head: CatalogHead): void {
    const { seen } = this;
    if (seen !== undefined && head.sequence < seen.sequence) {
      throw rollback(`head ${head.sequence}, after head ${seen.sequence}`);
    }
    if (head.records < this.#records) throw rollback(`${head.records} records, after ${this.#records}`);
    if (seen === undefined) return;
    if (head.sequence === seen.sequence && head.signedText !== seen.signedText) {
      throw new NarswarmError('catalog-fork', `head ${head.sequence} is another one than was seen before`);
    }
    const same = head.segments.find(({ records }) => records === seen.records);
    if (same !== undefined && same.chain !== seen.chain) {
      throw new NarswarmError(
        'catalog-fork',
        `the first ${seen.records} records are others than were seen before`,
      );
    }
  }
}

interface Offer {
  readonly transport: CatalogTransport;
  /** Missing when it is the one that was seen before. */
  readonly head?: CatalogHead;
  readonly etag?: string | undefined;
  readonly error?: NarswarmError;
}

async function fetchOffer(
  transport: CatalogTransport,
  judge: Judge,
  signal: AbortSignal | undefined,
): Promise<Offer> {
  try {
    const etag = judge.seen && etags.get(transport);
    const answer = await transport.fetchHead(etag, signal);
    if (answer === 'unchanged') return { transport };
    return { transport, head: judge.head(answer.text), etag: answer.etag };
  } catch (error) {
    if (!isNarswarmError(error) || signal?.aborted === true) throw error;
    return { transport, error };
  }
}

/** Throws catalog-fork when one key holder says two things at once. */
function newer(a: Offer | undefined, b: Offer): Offer {
  if (a?.head === undefined) return b.head === undefined ? (a ?? b) : b;
  if (b.head === undefined || b.head.sequence < a.head.sequence) return a;
  if (b.head.sequence === a.head.sequence && b.head.signedText !== a.head.signedText) {
    throw new NarswarmError('catalog-fork', `there are two heads ${a.head.sequence}`);
  }
  return b.head.sequence > a.head.sequence ? b : a;
}

/** That somebody could not be reached says less than what somebody else gave. */
function mostTelling(errors: readonly NarswarmError[]): NarswarmError {
  return (
    errors.find(({ code }) => code !== 'upstream-failed') ??
    errors[0] ??
    new NarswarmError('upstream-failed', 'there is nobody to ask for the head of the catalog')
  );
}

/** Segment after segment; the next one is fetched while one is read. */
async function takeIn(
  followed: FollowedCatalog,
  transports: readonly CatalogTransport[],
  head: CatalogHead,
  options: FollowOptions,
): Promise<void> {
  const here = followed.records;
  const missing = head.segments.filter(({ records }) => records > here);
  if (missing.length === 0) return;
  const { nixStoreDir } = options;
  const files = options.files ?? (await ownFiles(followed));
  const stopping = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stopping.signal]) : stopping.signal;
  const applier = new Applier({ path: followed.path, nixStoreDir });
  const fetchAt = (index: number): Promise<void> | undefined => {
    const segment = missing[index];
    const fetching = segment && fetchFile(files, transports, segment, signal);
    // Awaited when its turn comes.
    fetching?.catch(() => undefined);
    return fetching;
  };
  let fetching = fetchAt(0);
  let whole = false;
  let useless: readonly HeadSegment[] = [];
  try {
    for (const [index, segment] of missing.entries()) {
      await fetching;
      fetching = fetchAt(index + 1);
      const before = head.segments[head.segments.indexOf(segment) - 1];
      const task = {
        kind: 'segment',
        path: files.path(segment.sha256),
        first: before ?? { records: 0, chain: firstChain(nixStoreDir) },
        last: segment,
      } as const;
      useless = missing.slice(index, index + 2);
      await applier.apply(task, segment.sizeBytes);
      if (options.files === undefined) await files.remove(segment.sha256);
      signal.throwIfAborted();
    }
    whole = true;
  } catch (error) {
    if (!isUselessFile(error)) useless = [];
    throw error;
  } finally {
    stopping.abort(new NarswarmError('aborted', 'following the catalog was given up'));
    await fetching?.catch(() => undefined);
    await applier.close({ now: !whole });
    // A signer of nonsense would fill the disk with it, head after head; what only the disk has spoilt is fetched again.
    if (!whole) for (const { sha256 } of useless) await files.remove(sha256);
  }
}

/** A file of which nothing can be taken in, by whoever's fault. */
function isUselessFile(error: unknown): boolean {
  return isNarswarmError(
    error,
    'segment-truncated',
    'segment-corrupt',
    'record-corrupt',
    'decompression-bomb',
    'store-dir-mismatch',
    'catalog-fork',
  );
}

/** From the first that has it. */
async function fetchFile(
  files: CatalogFiles,
  transports: readonly CatalogTransport[],
  file: { sha256: Sha256; sizeBytes: number; infoHash: InfoHash },
  signal: AbortSignal | undefined,
): Promise<void> {
  if ((await files.size(file.sha256)) === file.sizeBytes) return;
  const errors: NarswarmError[] = [];
  for (const transport of transports) {
    try {
      await files.put(transport.fetchFile(file, signal), file);
      return;
    } catch (error) {
      if (!isNarswarmError(error) || isNarswarmError(error, 'store-failed', 'aborted')) throw error;
      errors.push(error);
    }
  }
  throw mostTelling(errors);
}

/** Beside the database, for what is not to be kept. */
async function ownFiles(followed: FollowedCatalog): Promise<CatalogFiles> {
  return CatalogFiles.open(`${followed.path}-files`);
}

function rollback(what: string): NarswarmError {
  return new NarswarmError('catalog-rollback', `the catalog is offered in an earlier state: ${what}`);
}
