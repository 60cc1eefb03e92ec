/**
 * narinfo: what a binary cache says about one store path. Source: Nix, libstore `nar-info.cc`.
 *
 * The text is kept, so that a narinfo is passed on as it was read, with its unknown lines and odd spellings.
 */

import { NarswarmError } from './errors.ts';
import { parseSha256, printSha256, type Sha256 } from './hash.ts';
import {
  parseStorePath,
  parseStorePathName,
  type StorePath,
  type StorePathName,
  storeDirOf,
} from './store-path.ts';
import { readUsualNarInfo } from './usual-narinfo.ts';

/** The mean is 2 KB; 10,000 references of the longest names come to 2.5 MB. */
export const narInfoMaxBytes = 4 << 20;
/** The largest closures have some 10,000 paths in all; one path refers to fewer. */
export const narInfoMaxReferences = 10_000;
/** A path is signed by its builder and perhaps by a few caches. */
export const narInfoMaxSignatures = 64;
/** What HTTP servers accept as a request line. */
export const narUrlMaxCharacters = 4096;

export interface NarInfo {
  readonly storePath: StorePath;
  /** Opaque: relative to the cache's root, or absolute; it may carry a query. */
  readonly url: string;
  /** As written; `bzip2` where the line is missing or empty. Not necessarily one that narswarm can read. */
  readonly compression: string;
  readonly fileHash?: Sha256 | undefined;
  /** Bytes. */
  readonly fileSize?: number | undefined;
  readonly narHash: Sha256;
  /** Bytes, at least 1. */
  readonly narSize: number;
  readonly references: readonly StorePathName[];
  readonly deriver?: string | undefined;
  readonly system?: string | undefined;
  /** Content address, as written. */
  readonly ca?: string | undefined;
  /** `name:base64`, as written; not yet verified. */
  readonly sigs: readonly string[];
  /** The whole narinfo as read. */
  readonly text: string;
}

/** The values from which `makeNarInfo` writes a narinfo. */
export type NarInfoValues = Omit<NarInfo, 'text'>;

/** Throws `narinfo-corrupt` with the offset in bytes of the line that breaks a rule. */
export function parseNarInfo(input: string | Uint8Array): NarInfo {
  const text = typeof input === 'string' ? input : decode(input);
  return readUsualNarInfo(text) ?? parseNarInfoLines(text);
}

/** The same, line by line, for whatever form it has. */
export function parseNarInfoLines(text: string): NarInfo {
  if (Buffer.byteLength(text) > narInfoMaxBytes)
    throw corrupt(`it has more than ${narInfoMaxBytes} bytes`, 0);
  const lines = text.split('\n');
  if (lines.pop() !== '') throw corrupt('its last line does not end', Buffer.byteLength(text));
  const draft = new Draft();
  for (const [index, line] of lines.entries()) {
    try {
      draft.take(line);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      const offset = lines.slice(0, index).reduce((sum, before) => sum + Buffer.byteLength(before) + 1, 0);
      throw new NarswarmError('narinfo-corrupt', `narinfo: ${why}`, { cause, offset });
    }
  }
  return draft.finish(text);
}

/** Byte for byte what was parsed, or what `makeNarInfo` wrote. */
export function printNarInfo(narInfo: NarInfo): string {
  return narInfo.text;
}

/** A narinfo with these values, in Nix's own order and spelling. Throws `narinfo-corrupt` when they cannot be. */
export function makeNarInfo(values: NarInfoValues): NarInfo {
  const lines: string[] = [];
  const put = (name: string, value: string | number | undefined): void => {
    if (value !== undefined) lines.push(`${name}: ${value}`);
  };
  put('StorePath', values.storePath);
  put('URL', values.url);
  put('Compression', values.compression);
  put('FileHash', values.fileHash && printSha256(values.fileHash));
  put('FileSize', values.fileSize);
  put('NarHash', printSha256(values.narHash));
  put('NarSize', values.narSize);
  put('References', values.references.join(' '));
  put('Deriver', values.deriver);
  put('System', values.system);
  for (const sig of values.sigs) put('Sig', sig);
  put('CA', values.ca);
  return parseNarInfo(lines.map((line) => `${line}\n`).join(''));
}

/** The same narinfo with another URL: the URL is not signed. */
export function withUrl(narInfo: NarInfo, url: string): NarInfo {
  const lines = narInfo.text.split('\n').map((line) => (lineName(line) === 'URL' ? `URL: ${url}` : line));
  return parseNarInfo(lines.join('\n'));
}

/** The same narinfo with one more signature. */
export function withSignature(narInfo: NarInfo, sig: string): NarInfo {
  return parseNarInfo(`${narInfo.text}Sig: ${sig}\n`);
}

/** The text that a signature covers. Reference paths are full and sorted; URL, FileHash and the like are not in it. */
export function fingerprint(narInfo: NarInfo): string {
  const storeDir = storeDirOf(narInfo.storePath);
  const references = [...new Set(narInfo.references)].sort().map((name) => `${storeDir}/${name}`);
  return `1;${narInfo.storePath};${printSha256(narInfo.narHash)};${narInfo.narSize};${references.join(',')}`;
}

/** Collects the values of the lines; each line is taken by itself. */
class Draft {
  #storePath: StorePath | undefined;
  #url: string | undefined;
  #compression = '';
  #fileHash: Sha256 | undefined;
  #fileSize: number | undefined;
  #narHash: Sha256 | undefined;
  #narSize: number | undefined;
  #references: StorePathName[] = [];
  #deriver: string | undefined;
  #system: string | undefined;
  #ca: string | undefined;
  readonly #sigs: string[] = [];

  take(line: string): void {
    const name = lineName(line);
    if (name === undefined) throw new Error('a line has no colon');
    const value = line.slice(name.length + 2);
    switch (name) {
      case 'StorePath':
        this.#storePath = parseStorePath(value);
        break;
      case 'URL':
        this.#url = parseUrlLine(value);
        break;
      case 'Compression':
        this.#compression = value;
        break;
      case 'FileHash':
        this.#fileHash = parseSha256(value);
        break;
      case 'FileSize':
        this.#fileSize = parseSize(value);
        break;
      case 'NarHash':
        this.#narHash = parseSha256(value);
        break;
      case 'NarSize':
        this.#narSize = parseSize(value);
        break;
      case 'References':
        if (this.#references.length > 0) throw new Error('a second References line');
        this.#references = parseReferences(value);
        break;
      case 'Deriver':
        this.#deriver = value;
        break;
      case 'System':
        this.#system = value;
        break;
      case 'CA':
        if (this.#ca !== undefined) throw new Error('a second CA line');
        this.#ca = value === '' ? undefined : value;
        break;
      case 'Sig':
        if (this.#sigs.length === narInfoMaxSignatures) throw new Error('too many signatures');
        this.#sigs.push(value);
        break;
    }
  }

  finish(text: string): NarInfo {
    const required = <T>(name: string, value: T | undefined): T => {
      if (value === undefined) throw corrupt(`it has no ${name}`, Buffer.byteLength(text));
      return value;
    };
    const narSize = required('NarSize', this.#narSize);
    if (narSize === 0) throw corrupt('NarSize is 0', Buffer.byteLength(text));
    return {
      storePath: required('StorePath', this.#storePath),
      url: required('URL', this.#url),
      compression: this.#compression === '' ? 'bzip2' : this.#compression,
      ...(this.#fileHash === undefined ? {} : { fileHash: this.#fileHash }),
      // To Nix 0 means that it is not known: no compressed or plain NAR is empty.
      ...(this.#fileSize ? { fileSize: this.#fileSize } : {}),
      narHash: required('NarHash', this.#narHash),
      narSize,
      references: this.#references,
      ...(this.#deriver === undefined ? {} : { deriver: this.#deriver }),
      ...(this.#system === undefined ? {} : { system: this.#system }),
      ...(this.#ca === undefined ? {} : { ca: this.#ca }),
      sigs: this.#sigs,
      text,
    };
  }
}

function lineName(line: string): string | undefined {
  const colon = line.indexOf(':');
  return colon < 0 ? undefined : line.slice(0, colon);
}

function parseUrlLine(value: string): string {
  if (value === '') throw new Error('the URL is empty');
  if (value.length > narUrlMaxCharacters) throw new Error('the URL is too long');
  // A control character or space would change the meaning of the HTTP request that carries it.
  if (/[^\x21-\x7e]/.test(value)) throw new Error('the URL has a character that no URL has');
  return value;
}

function parseSize(value: string): number {
  const size = /^[0-9]{1,16}$/.test(value) ? Number(value) : Number.NaN;
  if (!Number.isSafeInteger(size))
    throw new Error(`${JSON.stringify(value.slice(0, 32))} is not a size in bytes`);
  return size;
}

function parseReferences(value: string): StorePathName[] {
  const names = value.split(' ').filter((name) => name !== '');
  if (names.length > narInfoMaxReferences) throw new Error('too many references');
  return names.map(parseStorePathName);
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function decode(bytes: Uint8Array): string {
  if (bytes.length > narInfoMaxBytes) throw corrupt(`it has more than ${narInfoMaxBytes} bytes`, 0);
  try {
    return utf8.decode(bytes);
  } catch (cause) {
    throw new NarswarmError('narinfo-corrupt', 'narinfo: it is not UTF-8 text', { cause, offset: 0 });
  }
}

function corrupt(why: string, offset: number): NarswarmError {
  return new NarswarmError('narinfo-corrupt', `narinfo: ${why}`, { offset });
}
