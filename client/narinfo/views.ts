/**
 * Views of catalogs that are held here whole, such as all narinfos of a channel: what is in them is answered without any network. One of
 * them is read of every catalog: the NAR files that it has revoked.
 *
 * Their heads are fetched again and again. When none can be had, what is here holds until the last head expires: whoever stands
 * between could otherwise keep us for ever from learning what was taken back.
 */

import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type CatalogTransport, followCatalog, readView } from '../../catalog/follow.ts';
import { type FollowedCatalog, openFollowed, type Revoked } from '../../catalog/followed.ts';
import { type CatalogHead, isViewName, revocationsView } from '../../catalog/head.ts';
import { isNarswarmError, NarswarmError } from '../../nar/errors.ts';
import type { Sha256 } from '../../nar/hash.ts';
import type { PublicKey } from '../../nar/signature.ts';
import type { StoreHash } from '../../nar/store-path.ts';
import { makeDirectory, withObstacle } from '../../store/disk-error.ts';
import type { Logger } from '../../web/log.ts';

/** Between looks at the heads: a conditional request each. A tenth more or less, so that clients that start together do not stay together. */
const lookEveryMs = 10 * 60_000;
/** After a failure. */
const lookAgainMs = 60_000;

/** Read at once. */
const revocationsPage = 1_000;

export interface ViewsOptions {
  /** Holds the databases. */
  dir: string;
  /** Which views are held, in this order of preference; of whichever catalog has them. */
  names: readonly string[];
  /** Each is that of a catalog, or of one that takes its place. */
  keys: readonly PublicKey[];
  transports: readonly CatalogTransport[];
  nixStoreDir(): string;
  /** A NAR file was revoked; said again after each start. */
  onRevoked(fileHash: Sha256, revoked: Revoked): void;
  clock: () => number;
  logger: Logger;
}

export interface ViewStatus {
  name: string;
  /** Name of the key of its catalog. */
  catalog: string;
  /** Store paths; 0 while it is not here. */
  paths: number;
  /** Until when it holds unless a newer head comes, in milliseconds since 1970; missing before the first head. */
  expiresMs?: number;
  /** Why it is not used, or not brought up to date. */
  error?: string;
}

export class Views {
  readonly #catalogs: ViewedCatalog[];
  readonly #closing = new AbortController();
  readonly #running: Promise<void>;
  readonly #clock: () => number;
  #version = 0;
  #expiresMs = 0;
  /** Resolves when every catalog was asked once. */
  readonly looked: Promise<void>;

  private constructor(catalogs: ViewedCatalog[], clock: () => number) {
    this.#catalogs = catalogs;
    this.#clock = clock;
    const first = this.#look();
    this.looked = first.then(() => undefined);
    this.#running = this.#keepLooking(first);
  }

  /** Throws config-invalid for a name that no view can have, and store-failed. */
  static async open(options: ViewsOptions): Promise<Views> {
    const bad = options.names.find((name) => !isViewName(name));
    if (bad !== undefined)
      throw new NarswarmError('config-invalid', `${JSON.stringify(bad)} is not the name of a view`);
    await makeDirectory(options.dir);
    const catalogs: ViewedCatalog[] = [];
    try {
      for (const key of options.keys) catalogs.push(openViewed(key, options));
      return new Views(catalogs, options.clock);
    } catch (error) {
      for (const catalog of catalogs) catalog.close();
      throw error;
    }
  }

  /** The narinfo of a store path, verbatim, if it is in a view that still holds. */
  narInfo(storeHash: StoreHash): { text: string; fileHash: Sha256 } | undefined {
    for (const catalog of this.#catalogs) {
      const found = catalog.narInfo(storeHash);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** Its text alone, for half. */
  narInfoText(storeHash: StoreHash): string | undefined {
    for (const catalog of this.#catalogs) {
      const text = catalog.narInfoText(storeHash);
      if (text !== undefined) return text;
    }
    return undefined;
  }

  /** Another number whenever `narInfo` or `revoked` may say something else than before. Cheap, for asking at each request. */
  version(): number {
    if (this.#clock() >= this.#expiresMs) this.#changed();
    return this.#version;
  }

  /** What the catalogs sign with now: the keys that took the place of the configured ones. */
  keys(): PublicKey[] {
    return this.#catalogs.flatMap((catalog) => catalog.keys());
  }

  /** Why a NAR file is not to be used any more. This holds for ever, whatever expires. */
  revoked(fileHash: Sha256): Revoked | undefined {
    for (const catalog of this.#catalogs) {
      const found = catalog.revoked(fileHash);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  status(): ViewStatus[] {
    return this.#catalogs.flatMap((catalog) => catalog.status());
  }

  async close(): Promise<void> {
    this.#closing.abort(new NarswarmError('aborted', 'the client is stopping'));
    await this.#running;
    for (const catalog of this.#catalogs) catalog.close();
  }

  async #keepLooking(first: Promise<boolean>): Promise<void> {
    const { signal } = this.#closing;
    let good = await first;
    while (!signal.aborted) {
      const waitMs = (good ? lookEveryMs : lookAgainMs) * (0.9 + 0.2 * Math.random());
      // The process does not stay for it.
      await delay(waitMs, undefined, { signal, ref: false }).catch(() => undefined);
      if (!signal.aborted) good = await this.#look();
    }
  }

  async #look(): Promise<boolean> {
    const looks = this.#catalogs.map((catalog) =>
      catalog.look(this.#closing.signal).finally(() => this.#changed()),
    );
    return (await Promise.all(looks)).every(Boolean);
  }

  #changed(): void {
    this.#version++;
    const nowMs = this.#clock();
    const ahead = this.#catalogs.map(({ expiresMs }) => expiresMs).filter((expiresMs) => expiresMs > nowMs);
    this.#expiresMs = Math.min(...ahead, Number.POSITIVE_INFINITY);
  }
}

/**
 * What cannot be read is thrown away and read anew from the catalog: until then nothing is known of it, as before the first start, and a
 * client that does not start at all would leave Nix with less.
 */
function openViewed(key: PublicKey, options: ViewsOptions): ViewedCatalog {
  try {
    return new ViewedCatalog(key, options);
  } catch (error) {
    if (!isNarswarmError(error, 'catalog-corrupt', 'catalog-incompatible', 'head-corrupt')) throw error;
    options.logger.error('views-damaged', { catalog: key.name, error });
    for (const name of readdirSync(options.dir))
      if (name.startsWith(filePrefix(key))) rmSync(join(options.dir, name), { recursive: true });
    return new ViewedCatalog(key, options);
  }
}

/** Two keys may have one name, which need not be that of a file. */
function filePrefix(key: PublicKey): string {
  return `${key.bytes.toString('hex').slice(0, 16)}-`;
}

/** The views of the catalog that one key stands for. */
class ViewedCatalog {
  readonly #options: ViewsOptions;
  readonly #key: PublicKey;
  readonly #opened: FollowedCatalog[] = [];
  readonly #head: FollowedCatalog;
  readonly #views = new Map<string, FollowedCatalog>();
  readonly #revocations: FollowedCatalog;
  /** Most catalogs have never revoked anything, and it is asked for each narinfo. */
  #revokes = false;
  #error: string | undefined;
  /** Until when the views hold; 0 before the first head. Not read from the head at each question, as that is long. */
  expiresMs = 0;

  constructor(key: PublicKey, options: ViewsOptions) {
    this.#options = options;
    this.#key = key;
    try {
      this.#head = this.#open('head');
      // What was read before this start.
      for (const name of options.names) this.#views.set(name, this.#open(`view-${name}`));
      this.#revocations = this.#open('revocations');
      this.#tellRevocations();
      this.#readExpiry();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** False when it could not be followed. */
  async look(signal: AbortSignal): Promise<boolean> {
    const { transports, nixStoreDir, clock, logger, names } = this.#options;
    try {
      const options = { keys: [this.#key], nixStoreDir: nixStoreDir(), now: clock, headOnly: true, signal };
      await followCatalog(this.#head, transports, options);
      this.#readExpiry();
      const views = [[revocationsView, this.#revocations] as const, ...this.#views];
      for (const [name, into] of views) {
        const view = this.#head.head()?.views.find((each) => each.name === name);
        if (view === undefined) continue;
        const { state } = await readView(into, transports, view, options);
        if (state !== 'advanced') continue;
        logger.info('view-read', { view: name, paths: view.paths });
        if (name === revocationsView) this.#tellRevocations();
      }
      const missing = names.filter((name) => !this.#names().includes(name) && name !== revocationsView);
      this.#error = missing.length === 0 ? undefined : `the catalog has no view ${missing.join(', ')}`;
      return true;
    } catch (error) {
      if (signal.aborted) return false;
      if (!isNarswarmError(error)) throw error;
      // Said once for each reason: it comes again every minute.
      const text = `${error.code}: ${error.message}`;
      // A catalog that was not published yet is nothing to worry about for whoever wants no view of it.
      const level = names.length === 0 && error.code === 'upstream-failed' ? 'info' : 'warn';
      if (text !== this.#error) logger[level]('view-failed', { catalog: this.#key.name, error });
      this.#error = text;
      return false;
    } finally {
      this.#readExpiry();
    }
  }

  narInfo(storeHash: StoreHash): { text: string; fileHash: Sha256 } | undefined {
    if (this.#options.clock() >= this.expiresMs) return undefined;
    for (const view of this.#views.values()) {
      const found = view.narInfo(storeHash);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  narInfoText(storeHash: StoreHash): string | undefined {
    if (this.#options.clock() >= this.expiresMs) return undefined;
    for (const view of this.#views.values()) {
      const text = view.narInfoText(storeHash);
      if (text !== undefined) return text;
    }
    return undefined;
  }

  keys(): PublicKey[] {
    return this.#head.keys();
  }

  revoked(fileHash: Sha256): Revoked | undefined {
    return this.#revokes ? this.#revocations.revoked(fileHash) : undefined;
  }

  status(): ViewStatus[] {
    const head = this.#head.head();
    return this.#options.names.map((name) => ({
      name,
      catalog: this.#key.name,
      paths: this.#paths(name, head),
      ...(head && { expiresMs: head.expires * 1_000 }),
      ...(this.#error !== undefined && { error: this.#error }),
    }));
  }

  close(): void {
    for (const followed of this.#opened) followed.close();
  }

  #tellRevocations(): void {
    let after: Sha256 | undefined;
    do {
      const page = this.#revocations.revocations(after, revocationsPage);
      for (const { fileHash, ...revoked } of page) this.#options.onRevoked(fileHash, revoked);
      this.#revokes ||= page.length > 0;
      after = page.at(-1)?.fileHash;
    } while (after !== undefined);
  }

  #open(name: string): FollowedCatalog {
    const path = join(this.#options.dir, `${filePrefix(this.#key)}${name}.sqlite`);
    const followed = withObstacle(path, () => openFollowed(path));
    this.#opened.push(followed);
    return followed;
  }

  #names(): string[] {
    return (this.#head.head()?.views ?? []).map(({ name }) => name);
  }

  #paths(name: string, head: CatalogHead | undefined): number {
    const view = head?.views.find((each) => each.name === name);
    return view !== undefined && view.sha256 === this.#views.get(name)?.viewSha256 ? view.paths : 0;
  }

  #readExpiry(): void {
    this.expiresMs = (this.#head.head()?.expires ?? 0) * 1_000;
  }
}
