/**
 * The head of a catalog: a signed text that says how many records there are, which files hold them, and until when it
 * holds. The rules are in docs/format.md.
 */

import { NarswarmError } from '../nar/errors.ts';
import { type InfoHash, parseInfoHash, type Sha256 } from '../nar/hash.ts';
import { type PublicKey, parsePublicKey, type SecretKey, sign, verifySignatures } from '../nar/signature.ts';
import { firstChain } from './chain.ts';
import { readSha256, readTime } from './record.ts';
import { textLines } from './text-lines.ts';

/** A file that a head names: by its hash, and as a torrent. */
export interface CatalogFile {
  readonly sha256: Sha256;
  readonly sizeBytes: number;
  readonly infoHash: InfoHash;
}

export interface HeadSegment extends CatalogFile {
  /** Records of the catalog up to the end of this file. */
  readonly records: number;
  /** The chain after the last of them. */
  readonly chain: Sha256;
}

export interface HeadView extends CatalogFile {
  readonly name: string;
  /** Store paths in it. */
  readonly paths: number;
}

export interface HeadValues {
  readonly nixStoreDir: string;
  /** Counts up with every head. */
  readonly sequence: number;
  /** Seconds since 1970. */
  readonly time: number;
  /** Seconds since 1970; from then on the head is not taken any more. */
  readonly expires: number;
  readonly segments: readonly HeadSegment[];
  readonly views: readonly HeadView[];
  /** `name:base64`: those that may sign the next head. */
  readonly keys: readonly string[];
}

export interface CatalogHead extends HeadValues {
  readonly records: number;
  /** Over all records. */
  readonly chain: Sha256;
  readonly sigs: readonly string[];
  /** What the signatures cover: all lines before them, as they were read. */
  readonly signedText: string;
  /** The whole text as read. */
  readonly text: string;
}

/** Some 20,000 segments, of 65,536 records each. */
export const headMaxBytes = 4 << 20;
/** Two keys while one takes the place of the other, and room for those of a group. */
export const headKeysMax = 8;
export const headSigsMax = 8;
export const headViewsMax = 256;
/** Compressed, and some room for what does not compress. */
export const catalogFileMaxBytes = 4 * 2 ** 30;
/** 64 MiB of records that do not compress, which zstd makes longer by less than a hundredth. */
export const segmentFileMaxBytes = 65 << 20;

/** Also what tells the item in the DHT that names the newest head from others under the same key. */
export const headFormat = 'narswarm-catalog-1';
const viewName = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;

/** The name of the view that holds every revocation and nothing else, for those who do not follow the log; there is none before the first. */
export const revocationsView = 'revocations';

export function isViewName(text: string): boolean {
  return viewName.test(text);
}

/** The name of a head as a file in a torrent. */
export function headFileName(sha256: Sha256): string {
  return `${sha256}.head`;
}

export function isHeadFileName(name: string): boolean {
  return /^[0-9a-z]{52}\.head$/.test(name);
}

/**
 * Parses what came from outside. Throws head-corrupt with the offset of the line, and catalog-gap when the segments do
 * not follow each other up to the last record. Says nothing about the signatures.
 */
export function parseHead(text: string): CatalogHead {
  if (text.length > headMaxBytes) throw corrupt(`longer than ${headMaxBytes} bytes`, headMaxBytes);
  const draft = new Draft();
  for (const { name, value, offset } of textLines(text, corrupt)) {
    try {
      draft.take(name, value, offset);
    } catch (cause) {
      if (cause instanceof NarswarmError && cause.code === 'catalog-gap') throw cause;
      throw corrupt(`${name}: ${cause instanceof Error ? cause.message : String(cause)}`, offset, cause);
    }
  }
  return draft.finish(text);
}

/** The lines that a signature covers. */
export function headText(head: HeadValues): string {
  const last = head.segments.at(-1);
  const lines = [
    `Format: ${headFormat}`,
    `StoreDir: ${head.nixStoreDir}`,
    `Sequence: ${head.sequence}`,
    `Time: ${head.time}`,
    `Expires: ${head.expires}`,
    `Records: ${last?.records ?? 0}`,
    `Chain: ${last?.chain ?? firstChain(head.nixStoreDir)}`,
    ...head.segments.map((s) => `Segment: ${s.records} ${s.chain} ${fileWords(s)}`),
    ...head.views.map((v) => `View: ${v.name} ${v.paths} ${fileWords(v)}`),
    ...head.keys.map((key) => `Key: ${key}`),
  ];
  return `${lines.join('\n')}\n`;
}

/** The text of a head with a signature by each of `secrets`. Throws rather than sign what no reader would take. */
export function signHead(head: HeadValues, secrets: readonly SecretKey[]): string {
  const signedText = headText(head);
  const text = signedText + secrets.map((secret) => `Sig: ${sign(secret, signedText)}\n`).join('');
  parseHead(text);
  return text;
}

/** The name of the first key of `keys` that signed the head; undefined when none did. */
export function verifyHead(head: CatalogHead, keys: readonly PublicKey[]): string | undefined {
  return verifySignatures(keys, head.signedText, head.sigs);
}

function fileWords({ sha256, sizeBytes, infoHash }: CatalogFile): string {
  return `${sha256} ${sizeBytes} ${infoHash}`;
}

/** Collects the values of the lines; those of the segments must go on from each other. */
class Draft {
  readonly #values = new Map<string, string>();
  readonly #segments: HeadSegment[] = [];
  readonly #views: HeadView[] = [];
  readonly #keys: string[] = [];
  readonly #sigs: string[] = [];
  #signedBytes: number | undefined;

  take(name: string, value: string, offset: number): void {
    if (name !== 'Sig' && this.#signedBytes !== undefined) throw new Error('a line after the signatures');
    switch (name) {
      case 'Format':
      case 'StoreDir':
      case 'Sequence':
      case 'Time':
      case 'Expires':
      case 'Records':
      case 'Chain':
        if (this.#values.has(name)) throw new Error('it comes twice');
        this.#values.set(name, value);
        break;
      case 'Segment':
        this.#takeSegment(value);
        break;
      case 'View':
        if (this.#views.length === headViewsMax) throw new Error('too many views');
        this.#takeView(value);
        break;
      case 'Key':
        if (this.#keys.length === headKeysMax) throw new Error('too many keys');
        parsePublicKey(value);
        if (value.trim() !== value) throw new Error('spaces around a key');
        this.#keys.push(value);
        break;
      case 'Sig':
        this.#signedBytes ??= offset;
        if (this.#sigs.length === headSigsMax) throw new Error('too many signatures');
        this.#sigs.push(value);
        break;
    }
  }

  finish(text: string): CatalogHead {
    const read = <T>(name: string, parse: (value: string) => T): T => {
      const value = this.#values.get(name);
      if (value === undefined) throw corrupt(`${name} is missing`, text.length);
      try {
        return parse(value);
      } catch (cause) {
        throw corrupt(`bad ${name}`, text.length, cause);
      }
    };
    if (read('Format', String) !== headFormat) throw corrupt('another format', text.length);
    const nixStoreDir = read('StoreDir', readStoreDir);
    const [time, expires] = [read('Time', readTime), read('Expires', readTime)];
    if (expires <= time) throw corrupt('it expires before its own time', text.length);
    const [records, chain] = [read('Records', readCount), read('Chain', readSha256)];
    const last = this.#segments.at(-1);
    if ((last?.records ?? 0) !== records || (last?.chain ?? firstChain(nixStoreDir)) !== chain)
      throw gap('the last segment does not end with the last record');
    if (this.#keys.length === 0) throw corrupt('no Key', text.length);
    return {
      nixStoreDir,
      sequence: read('Sequence', readCount),
      time,
      expires,
      records,
      chain,
      segments: this.#segments,
      views: this.#views,
      keys: this.#keys,
      sigs: this.#sigs,
      signedText: text.slice(0, this.#signedBytes ?? text.length),
      text,
    };
  }

  #takeSegment(value: string): void {
    const [records = '', chain = '', ...file] = value.split(' ');
    const segment = {
      records: readCount(records),
      chain: readSha256(chain),
      ...readFile(file, segmentFileMaxBytes),
    };
    if (segment.records <= (this.#segments.at(-1)?.records ?? 0))
      throw gap('a segment ends where the one before it does, or earlier');
    this.#segments.push(segment);
  }

  #takeView(value: string): void {
    const [name = '', paths = '', ...file] = value.split(' ');
    if (!isViewName(name)) throw new Error('not the name of a view');
    if (this.#views.some((view) => view.name === name)) throw new Error('the name comes twice');
    this.#views.push({ name, paths: readCount(paths), ...readFile(file, catalogFileMaxBytes) });
  }
}

function readFile(words: readonly string[], maxBytes: number): CatalogFile {
  const [sha256 = '', size = '', infoHash = '', ...more] = words;
  if (more.length > 0) throw new Error('too many words');
  if (parseInfoHash(infoHash) !== infoHash) throw new Error('an infohash is not in lower case');
  const sizeBytes = readCount(size);
  if (sizeBytes < 1 || sizeBytes > maxBytes) throw new Error('not the size of a file');
  return { sha256: readSha256(sha256), sizeBytes, infoHash: infoHash as InfoHash };
}

function readCount(text: string): number {
  const count = /^(0|[1-9][0-9]{0,15})$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(count)) throw new Error(`${JSON.stringify(text.slice(0, 32))} is not a count`);
  return count;
}

function readStoreDir(text: string): string {
  if (!/^(\/[^/]+)+$/.test(text) || text.split('/').some((part) => part === '.' || part === '..'))
    throw new Error('not a directory in plain form');
  return text;
}

function corrupt(what: string, offset: number, cause?: unknown): NarswarmError {
  const message = `head of a catalog: ${what}, at byte ${offset}`;
  return new NarswarmError('head-corrupt', message, cause === undefined ? { offset } : { offset, cause });
}

function gap(what: string): NarswarmError {
  return new NarswarmError('catalog-gap', `head of a catalog: ${what}`);
}
