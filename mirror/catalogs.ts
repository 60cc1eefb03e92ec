/** The catalogs that a mirror follows, each under its own key, and what they say together. */

import { join } from 'node:path';
import { CatalogFiles } from '../catalog/files.ts';
import {
  type CatalogTransport,
  fetchSegments,
  followCatalog,
  readView,
  trustedKeys,
} from '../catalog/follow.ts';
import { type FollowedCatalog, openFollowed } from '../catalog/followed.ts';
import { type TorrentInfo, verifyTorrentInfo } from '../catalog/torrentinfo.ts';
import { checkNarInfo } from '../nar/check-narinfo.ts';
import { NarswarmError } from '../nar/errors.ts';
import type { Sha256 } from '../nar/hash.ts';
import { type NarInfo, parseNarInfo } from '../nar/narinfo.ts';
import type { PublicKey } from '../nar/signature.ts';
import { type StoreHash, storeHashOf } from '../nar/store-path.ts';
import type { ReportedNar } from '../parts/availability-report.ts';
import { HeadInDht, type HeadInDhtStatus, headNotInDht } from '../parts/head-in-dht.ts';
import { HeadSource } from '../parts/head-source.ts';
import { SwarmCatalog } from '../parts/swarm-catalog.ts';
import { removeDatabase } from '../store/database-files.ts';
import { isDamaged, makeDirectory, withObstacle } from '../store/disk-error.ts';
import type { Dht } from '../swarm/dht/dht.ts';
import type { Logger } from '../web/log.ts';

/** How a catalog is reached, by the URLs that were configured. */
export interface CatalogReach {
  readonly url: string;
  readonly transport: CatalogTransport;
}

export interface MirrorCatalogOptions {
  /** Of the mirror. */
  dataDir: string;
  /** Those of one catalog: any of them signs its first head. */
  keys: readonly PublicKey[];
  reaches: readonly CatalogReach[];
  nixStoreDir: string;
  /** Of caches: what none of them signed is not kept. */
  trustedKeys: readonly PublicKey[];
  /** Views that are wanted, where it has them. */
  views: readonly string[];
  logger: Logger;
  /** By which it is found without a server and kept for others, if there is one. Asked for when the first look at the catalog begins. */
  dht?: () => Dht | undefined;
  /** Milliseconds since 1970. */
  now: () => number;
}

export interface CatalogStatus {
  name: string;
  sequence: number | null;
  records: number;
  nars: number;
  /** Seconds since a head was last confirmed; null before the first. */
  confirmedSeconds: number | null;
  /** Why it could not be followed last time. */
  error: string | null;
  /** What the DHT was told of it. */
  dht: HeadInDhtStatus;
}

interface InDht {
  readonly swarm: SwarmCatalog;
  readonly kept: HeadInDht;
}

/** One catalog: its log, its files, the views that are wanted of it. */
export class MirrorCatalog {
  /** That of its first key: how it is told from others. */
  readonly name: string;
  readonly followed: FollowedCatalog;
  readonly files: CatalogFiles;
  readonly reaches: readonly CatalogReach[];
  readonly #options: MirrorCatalogOptions;
  readonly #views = new Map<string, FollowedCatalog>();
  #inDht: InDht | undefined;
  /** Its head as a torrent. */
  readonly heads = new HeadSource();
  #shown: string | undefined;
  #confirmedMs: number | undefined;
  #error: NarswarmError | undefined;

  private constructor(options: MirrorCatalogOptions, followed: FollowedCatalog, files: CatalogFiles) {
    this.name = nameOf(options.keys);
    this.reaches = options.reaches;
    this.followed = followed;
    this.files = files;
    this.#options = options;
  }

  static async open(options: MirrorCatalogOptions): Promise<MirrorCatalog> {
    const dir = join(options.dataDir, 'catalogs', nameOf(options.keys));
    await makeDirectory(dir);
    const files = await CatalogFiles.open(join(dir, 'files'));
    const path = join(dir, 'followed.sqlite');
    return new MirrorCatalog(options, openOrMake(path, options.logger), files);
  }

  /**
   * Calls back when something may be other than it was: at once, since what was revoked must not wait for a view that cannot be read. Throws
   * what `followCatalog` throws.
   */
  async follow(signal: AbortSignal, onChange: () => void): Promise<void> {
    const { keys, nixStoreDir, now } = this.#options;
    const inDht = this.#openInDht();
    const transports: CatalogTransport[] = this.reaches.map(({ transport }) => transport);
    if (inDht !== undefined) transports.push(inDht.swarm);
    try {
      const result = await followCatalog(this.followed, transports, {
        keys,
        nixStoreDir,
        now,
        files: this.files,
        signal,
      });
      this.#confirmedMs = now();
      this.#showHead();
      if (result.state === 'advanced') onChange();
      await this.#readViews(transports, signal, onChange);
      await fetchSegments(this.followed, transports, { files: this.files, signal });
      await this.#dropOldFiles();
      this.#error = undefined;
    } catch (error) {
      if (error instanceof NarswarmError && error.code !== 'aborted') this.#error = error;
      throw error;
    }
  }

  view(name: string): FollowedCatalog | undefined {
    return this.#views.get(name);
  }

  /** Whatever once was taken counts: what is held was checked against it. */
  get isKnown(): boolean {
    return this.followed.head() !== undefined;
  }

  /** Its torrentinfo, signed by a key of the catalog; `undefined` for what it does not have or has revoked. */
  torrentInfo(fileHash: Sha256): TorrentInfo | undefined {
    const { followed } = this;
    if (followed.revoked(fileHash) !== undefined) return undefined;
    const torrentInfo = followed.torrentInfo(fileHash);
    return torrentInfo && verifyTorrentInfo(torrentInfo, this.keys()) !== undefined ? torrentInfo : undefined;
  }

  /** The configured ones, and those that took their place. */
  keys(): PublicKey[] {
    return [...this.followed.keys(), ...this.#options.keys];
  }

  /** Narinfos of the NAR file that a trusted key signed and that are about the same NAR. */
  narInfosOf(torrentInfo: TorrentInfo): NarInfo[] {
    return this.followed.storeHashesOf(torrentInfo.fileHash).flatMap((storeHash) => {
      const found = this.followed.narInfo(storeHash);
      const narInfo = found && this.#checked(found.text, storeHash);
      return narInfo !== undefined && isAbout(narInfo, torrentInfo) ? [narInfo] : [];
    });
  }

  /** The narinfo of a store path, if it is to be believed, and its NAR file. */
  narInfo(storeHash: StoreHash): { text: string; fileHash: Sha256; narInfo: NarInfo } | undefined {
    const found = this.followed.narInfo(storeHash);
    const torrentInfo = found && this.torrentInfo(found.fileHash);
    const narInfo = found && this.#checked(found.text, storeHash);
    if (found === undefined || torrentInfo === undefined || narInfo === undefined) return undefined;
    return isAbout(narInfo, torrentInfo) ? { ...found, narInfo } : undefined;
  }

  /** Store hashes that the narinfos of a NAR file reference, their own left out. Not checked: whoever serves does. */
  referencesOf(fileHash: Sha256): Set<StoreHash> {
    const references = new Set<StoreHash>();
    const own = this.followed.storeHashesOf(fileHash);
    for (const storeHash of own) {
      const text = this.followed.narInfo(storeHash)?.text;
      if (text === undefined) continue;
      try {
        for (const name of parseNarInfo(text).references) references.add(storeHashOf(name));
      } catch (error) {
        if (!(error instanceof NarswarmError)) throw error;
      }
    }
    for (const storeHash of own) references.delete(storeHash);
    return references;
  }

  /** What a report says of the NAR file with this ordinal; `undefined` when it is in the catalog no longer. */
  reported(ordinal: number): ReportedNar | undefined {
    const { followed } = this;
    const fileHash = followed.byOrdinal(ordinal);
    const fileSize = fileHash && followed.torrentInfo(fileHash)?.fileSize;
    if (fileHash === undefined || fileSize === undefined) return undefined;
    const [storeHash] = followed.storeHashesOf(fileHash);
    const text = storeHash && followed.narInfo(storeHash)?.text;
    return { fileHash, fileSize, storePath: text === undefined ? undefined : parseNarInfo(text).storePath };
  }

  status(): CatalogStatus {
    const head = this.followed.head();
    return {
      name: this.name,
      sequence: head?.sequence ?? null,
      records: this.followed.records,
      nars: this.followed.ordinals,
      confirmedSeconds:
        this.#confirmedMs === undefined
          ? null
          : Math.round((this.#options.now() - this.#confirmedMs) / 1_000),
      dht: this.#inDht?.kept.status() ?? headNotInDht,
      error: this.#error === undefined ? null : `${this.#error.code}: ${this.#error.message}`,
    };
  }

  async close(): Promise<void> {
    await this.#inDht?.kept.close();
    for (const view of this.#views.values()) view.close();
    this.followed.close();
  }

  #checked(text: string, storeHash: StoreHash): NarInfo | undefined {
    const { nixStoreDir, trustedKeys } = this.#options;
    try {
      const narInfo = parseNarInfo(text);
      checkNarInfo(narInfo, `${storeHash}.narinfo`, nixStoreDir, trustedKeys);
      return narInfo;
    } catch (error) {
      if (error instanceof NarswarmError) return undefined;
      throw error;
    }
  }

  #openInDht(): InDht | undefined {
    const { dht: open, keys, logger } = this.#options;
    const dht = this.#inDht === undefined ? open?.() : undefined;
    if (dht !== undefined) {
      const swarm = new SwarmCatalog({ dht, keys: () => trustedKeys(this.followed, keys) });
      this.#inDht = { swarm, kept: new HeadInDht({ dht, logger }) };
    }
    return this.#inDht;
  }

  /** The head is seeded, and the item that names it is kept in the DHT: by us, too, when whoever signed it is gone. */
  #showHead(): void {
    const text = this.followed.head()?.text;
    if (text === undefined || this.#inDht === undefined) return;
    if (text !== this.#shown) this.heads.show(text);
    this.#shown = text;
    const { item } = this.#inDht.swarm;
    if (item !== undefined && this.heads.newest === item.infoHash)
      this.#inDht.kept.show(item.infoHash, [item]);
  }

  async #readViews(
    transports: readonly CatalogTransport[],
    signal: AbortSignal,
    onChange: () => void,
  ): Promise<void> {
    const { dataDir, views, nixStoreDir, logger } = this.#options;
    for (const name of views) {
      const view = this.followed.head()?.views.find((each) => each.name === name);
      if (view === undefined) continue;
      let into = this.#views.get(name);
      if (into === undefined) {
        into = openFollowed(join(dataDir, 'catalogs', this.name, `view-${name}.sqlite`));
        this.#views.set(name, into);
        // With what was read before this start.
        onChange();
      }
      const { files } = this;
      const { state } = await readView(into, transports, view, { nixStoreDir, files, signal });
      if (state !== 'advanced') continue;
      logger.info('view-read', { catalog: this.name, view: name, paths: view.paths });
      onChange();
    }
  }

  /** Segments that were fused into larger ones, and views of yesterday: whoever needs them asks the catalog's own server. */
  async #dropOldFiles(): Promise<void> {
    const head = this.followed.head();
    const kept = new Set([...(head?.segments ?? []), ...(head?.views ?? [])].map(({ sha256 }) => sha256));
    for (const sha256 of await this.files.list()) if (!kept.has(sha256)) await this.files.remove(sha256);
  }
}

function nameOf(keys: readonly PublicKey[]): string {
  const name = keys[0]?.name ?? '';
  // It becomes the name of a directory and part of a URL.
  if (!/^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$/.test(name)) {
    throw new NarswarmError(
      'config-invalid',
      `the catalog key ${JSON.stringify(name)} cannot be the name of a directory`,
    );
  }
  return name;
}

function isAbout(narInfo: NarInfo, torrentInfo: TorrentInfo): boolean {
  return (
    (narInfo.fileHash ?? torrentInfo.fileHash) === torrentInfo.fileHash &&
    (narInfo.fileSize ?? torrentInfo.fileSize) === torrentInfo.fileSize &&
    narInfo.compression === torrentInfo.compression &&
    narInfo.narHash === torrentInfo.narHash &&
    narInfo.narSize === torrentInfo.narSize
  );
}

/** All of it can be followed again. */
function openOrMake(path: string, logger: Logger): FollowedCatalog {
  try {
    return withObstacle(path, () => openFollowed(path));
  } catch (error) {
    if (!isDamaged(error)) throw error;
    logger.error('followed-damaged', { path, error });
    removeDatabase(path);
    return openFollowed(path);
  }
}
