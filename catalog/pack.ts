/**
 * The manifest of a pack: the signed record that says which NAR files and narinfos lie in a pack, in which order. With it and those files
 * anybody makes the pack again. Text in the manner of a narinfo; the rules are in docs/format.md.
 */

import { hash } from 'node:crypto';
import { printCacheInfo } from '../nar/cache-info.ts';
import { type Compression, isCompression, narFileName } from '../nar/compression.ts';
import { NarswarmError } from '../nar/errors.ts';
import { type InfoHash, type Sha256, sha256FromDigest } from '../nar/hash.ts';
import { type PublicKey, type SecretKey, sign, verifySignatures } from '../nar/signature.ts';
import type { StoreHash } from '../nar/store-path.ts';
import { packNarInfoMaxBytes } from './pack-narinfo.ts';

/** A narinfo as the pack holds it: see pack-narinfo.ts. */
export interface PackedNarInfo {
  readonly storeHash: StoreHash;
  /** Of the text in the pack. */
  readonly sha256: Sha256;
  /** In bytes, 1 to `packNarInfoMaxBytes`. */
  readonly sizeBytes: number;
}

export interface PackedNarFile {
  readonly fileHash: Sha256;
  /** In bytes, at least 1. */
  readonly fileSize: number;
  readonly compression: Compression;
}

export interface Pack {
  /** Of the cache: `/nix/store`. */
  readonly storeDir: string;
  /** Of the pack's torrent. */
  readonly infoHash: InfoHash;
  /** In the order in which they lie in the pack, which begins with nix-cache-info; at least one. */
  readonly narInfos: readonly PackedNarInfo[];
  /** They follow the narinfos; at least one. */
  readonly narFiles: readonly PackedNarFile[];
  /** `<key name>:<base64>`, in the order in which they were made. */
  readonly sigs: readonly string[];
}

/** What the pack's torrent and its name follow from. */
export type PackContent = Omit<Pack, 'infoHash' | 'sigs'>;

/** A file of a pack, and where it lies. */
export interface PackFile {
  /** Names of directories and file: `nar`, `<FileHash>.nar.xz`. */
  readonly path: readonly string[];
  /** Of its first byte in the pack. */
  readonly offset: number;
  readonly sizeBytes: number;
  /** SHA-256 of its bytes. */
  readonly sha256: Sha256;
  readonly narInfo?: PackedNarInfo;
  readonly narFile?: PackedNarFile;
}

/**
 * Files in a pack, nix-cache-info included. It keeps the info dictionary below 2.5 MB: libtorrent takes metadata of 3 MiB from peers and
 * .torrent files of 10 MB.
 */
export const packFilesMax = 16_384;

/** 2 GiB, eight times the usual: a piece table of 640 KiB. */
export const packMaxBytes = 2 ** 31;

/** `packFilesMax` lines of at most 118 characters, and 64 KiB for those around them. */
export const packManifestMaxBytes = packFilesMax * 118 + 65_536;

/** As for a torrentinfo. */
export const packSigsMax = 8;

/** What programs and directories of the cache info are bound to; see `storeDirMaxCharacters` of store paths. */
const storeDirMaxCharacters = 1024;

/** Before cache.nixos.org (40): a directory on the own disk is nearer than any server. */
const packPriority = 30;

const format = 'narswarm-pack-1';

/** Parses what came from outside. Throws pack-corrupt with the offset. Says nothing about the signatures. */
export function parsePack(input: string | Uint8Array): Pack {
  if (input.length > packManifestMaxBytes)
    throw corrupt(`longer than ${packManifestMaxBytes} bytes`, packManifestMaxBytes);
  const lines = new Lines(typeof input === 'string' ? input : Buffer.from(input).toString('latin1'));
  lines.take('Format', (value) => (value === format ? value : undefined));
  const storeDir = lines.take('StoreDir', readStoreDir);
  const infoHash = lines.take('InfoHash', readInfoHash);
  const length = lines.take('Length', readSize);
  const narInfos: PackedNarInfo[] = [];
  const narFiles: PackedNarFile[] = [];
  const seen = new Set<string>();
  while (lines.next === 'File') {
    const file = lines.take('File', readFile);
    // nix-cache-info is one more.
    if (seen.size + 1 >= packFilesMax) throw corrupt(`more than ${packFilesMax} files`, lines.offset);
    const key = 'storeHash' in file ? file.storeHash : file.fileHash;
    if (seen.has(key)) throw corrupt(`${key} comes twice`, lines.offset);
    seen.add(key);
    if ('fileHash' in file) narFiles.push(file);
    else if (narFiles.length === 0) narInfos.push(file);
    else throw corrupt('a narinfo comes after a NAR file', lines.offset);
  }
  const sigs: string[] = [];
  while (lines.next === 'Sig') {
    if (sigs.length === packSigsMax) throw corrupt(`more than ${packSigsMax} lines Sig`, lines.offset);
    sigs.push(lines.take('Sig', (value) => value));
  }
  lines.end();
  if (narInfos.length === 0 || narFiles.length === 0)
    throw corrupt('it has no narinfo or no NAR file', lines.offset);
  const pack = { storeDir, infoHash, narInfos, narFiles, sigs };
  const sum = packLength(pack);
  if (length !== sum || sum > packMaxBytes)
    throw corrupt(`Length is ${length}, its files have ${sum} bytes`, lines.offset);
  return pack;
}

/** The one text of a manifest. */
export function printPack(pack: Pack): string {
  return packText(pack) + sigLines(pack.sigs);
}

function sigLines(sigs: readonly string[]): string {
  return sigs.map((sig) => `Sig: ${sig}\n`).join('');
}

/** The text that a signature covers: everything before the signatures. */
export function packText(pack: Omit<Pack, 'sigs'>): string {
  const { storeDir, infoHash } = pack;
  const head = [`Format: ${format}`, `StoreDir: ${storeDir}`, `InfoHash: ${infoHash}`];
  return `${head.join('\n')}\nLength: ${packLength(pack)}\n${fileLines(pack)}`;
}

/**
 * `pack` with a signature by `secret` after those it has; one under the same key name is replaced. Throws pack-corrupt rather than
 * sign what no parser would take.
 */
export function signPack(pack: Omit<Pack, 'sigs'> & { sigs?: readonly string[] }, secret: SecretKey): Pack {
  const others = (pack.sigs ?? []).filter((sig) => !sig.startsWith(`${secret.name}:`));
  const text = packText(pack);
  const sigs = [...others, sign(secret, text)];
  parsePack(text + sigLines(sigs));
  return { ...pack, sigs };
}

/** The name of the first key of `keys` that signed `pack`; undefined when none did. */
export function verifyPack(pack: Pack, keys: readonly PublicKey[]): string | undefined {
  return verifySignatures(keys, packText(pack), pack.sigs);
}

/** `<infohash>.packinfo`, the file name of a manifest. */
export function packInfoName(infoHash: InfoHash): string {
  return `${infoHash}.packinfo`;
}

/** The name of the pack's torrent, and so of the directory that BitTorrent programs make: it follows from what is in it. */
export function packName(content: PackContent): string {
  const text = `StoreDir: ${content.storeDir}\n${fileLines(content)}`;
  return `${sha256FromDigest(hash('sha256', text, 'buffer'))}.pack`;
}

/** The text of nix-cache-info in a pack. */
export function packCacheInfo(storeDir: string): string {
  return printCacheInfo({ storeDir, wantMassQuery: true, priority: packPriority });
}

/** Bytes of all files together. */
export function packLength(content: PackContent): number {
  let length = packCacheInfo(content.storeDir).length;
  for (const { sizeBytes } of content.narInfos) length += sizeBytes;
  for (const { fileSize } of content.narFiles) length += fileSize;
  return length;
}

/** All files of a pack, in the order of its torrent and without gaps. */
export function packFiles(content: PackContent): PackFile[] {
  const files: PackFile[] = [];
  let offset = 0;
  const add = (file: Omit<PackFile, 'offset'>): void => {
    files.push({ ...file, offset });
    offset += file.sizeBytes;
  };
  const cacheInfo = packCacheInfo(content.storeDir);
  const cacheInfoHash = sha256FromDigest(hash('sha256', cacheInfo, 'buffer'));
  add({ path: ['nix-cache-info'], sizeBytes: cacheInfo.length, sha256: cacheInfoHash });
  for (const narInfo of content.narInfos) {
    const { storeHash, sizeBytes, sha256 } = narInfo;
    add({ path: [`${storeHash}.narinfo`], sizeBytes, sha256, narInfo });
  }
  for (const narFile of content.narFiles) {
    const { fileHash, fileSize, compression } = narFile;
    const path = ['nar', narFileName(fileHash, compression)];
    add({ path, sizeBytes: fileSize, sha256: fileHash, narFile });
  }
  return files;
}

/** A line for each file, in their order. nix-cache-info has none: it follows from the store directory. */
function fileLines({ narInfos, narFiles }: PackContent): string {
  let lines = '';
  for (const { sizeBytes, storeHash, sha256 } of narInfos)
    lines += `File: ${sizeBytes} narinfo ${storeHash} sha256:${sha256}\n`;
  for (const { fileSize, fileHash, compression } of narFiles)
    lines += `File: ${fileSize} nar sha256:${fileHash} ${compression}\n`;
  return lines;
}

const linePattern = /^([A-Za-z]+): ([\x20-\x7e]+)$/;

/** The lines of a manifest, which come in one order. */
class Lines {
  readonly #text: string;
  /** Of the line that is next. */
  #start = 0;
  #end = 0;
  #name: string | undefined;
  #value = '';
  /** Of the line that was taken last. */
  offset = 0;

  constructor(text: string) {
    this.#text = text;
    this.#read();
  }

  /** The name of the next line; undefined after the last. */
  get next(): string | undefined {
    return this.#name;
  }

  /** The value of the next line, which must have that name. */
  take<T>(name: string, read: (value: string) => T | undefined): T {
    if (this.#name !== name) throw corrupt(`${name} is missing`, this.#start);
    const value = read(this.#value);
    if (value === undefined) throw corrupt(`bad ${name}`, this.#start);
    this.offset = this.#start;
    this.#start = this.#end + 1;
    this.#read();
    return value;
  }

  end(): void {
    if (this.#name !== undefined) throw corrupt(`${this.#name} is not expected`, this.#start);
  }

  #read(): void {
    this.#name = undefined;
    if (this.#start >= this.#text.length) return;
    this.#end = this.#text.indexOf('\n', this.#start);
    if (this.#end === -1) throw corrupt('the last line has no newline', this.#text.length);
    const [, name, value = ''] = linePattern.exec(this.#text.slice(this.#start, this.#end)) ?? [];
    if (name === undefined) throw corrupt('a line is not `Name: value`', this.#start);
    this.#name = name;
    this.#value = value;
  }
}

// Each value has one spelling, so that a manifest has one text. The patterns say all that the hashes' own parsers would, in a tenth of
// the time: there are 16,000 of them. The first of 52 nix32 digits carries one bit.
const sizePattern = '([1-9][0-9]{0,9})';
const sha256Pattern = 'sha256:([01][0-9a-df-np-sv-z]{51})';
const narInfoPattern = new RegExp(`^${sizePattern} narinfo ([0-9a-df-np-sv-z]{32}) ${sha256Pattern}$`);
const narFilePattern = new RegExp(`^${sizePattern} nar ${sha256Pattern} ([a-z0-9]+)$`);

function readFile(value: string): PackedNarInfo | PackedNarFile | undefined {
  const narInfo = narInfoPattern.exec(value);
  if (narInfo !== null) {
    const [, size, storeHash, sha256] = narInfo;
    if (Number(size) > packNarInfoMaxBytes) return undefined;
    return { storeHash: storeHash as StoreHash, sha256: sha256 as Sha256, sizeBytes: Number(size) };
  }
  const [, size, fileHash, compression = ''] = narFilePattern.exec(value) ?? [];
  if (fileHash === undefined || !isCompression(compression)) return undefined;
  return { fileHash: fileHash as Sha256, fileSize: Number(size), compression };
}

function readStoreDir(value: string): string | undefined {
  const plain = /^(?:\/[\x21-\x2e\x30-\x7e]+)+$/.test(value) && !/\/\.\.?(?:\/|$)/.test(value);
  return plain && value.length <= storeDirMaxCharacters ? value : undefined;
}

function readInfoHash(value: string): InfoHash | undefined {
  return /^[0-9a-f]{40}$/.test(value) ? (value as InfoHash) : undefined;
}

function readSize(value: string): number | undefined {
  return /^[1-9][0-9]{0,9}$/.test(value) ? Number(value) : undefined;
}

function corrupt(what: string, offset: number): NarswarmError {
  return new NarswarmError('pack-corrupt', `pack: ${what}, at byte ${offset}`, { offset });
}
