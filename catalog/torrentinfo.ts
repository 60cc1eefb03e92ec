/**
 * The torrentinfo: the signed record that says which two torrents belong to a NAR file. Text in the manner of a
 * narinfo; the rules are in docs/format.md.
 */

import { type Compression, isCompression } from '../nar/compression.ts';
import { NarswarmError } from '../nar/errors.ts';
import { type InfoHash, parseInfoHash, printSha256, type Sha256 } from '../nar/hash.ts';
import {
  type PublicKey,
  type SecretKey,
  sign,
  verifySignatures,
  verifySignaturesAside,
} from '../nar/signature.ts';
import { textLines } from './text-lines.ts';

export interface TorrentInfo {
  /** SHA-256 of the NAR file, as upstream serves it. */
  readonly fileHash: Sha256;
  /** In bytes, at least 1. */
  readonly fileSize: number;
  readonly compression: Compression;
  /** SHA-256 of the NAR itself. */
  readonly narHash: Sha256;
  /** In bytes, at least 1. */
  readonly narSize: number;
  /** Of the torrent of the NAR file. */
  readonly infoHash: InfoHash;
  /** Of the torrent of the NAR itself; the same torrent when nothing is compressed. */
  readonly narInfoHash: InfoHash;
  /** `<key name>:<base64>`, in the order in which they were made. */
  readonly sigs: readonly string[];
}

/** One without additions and with one signature has 440 to 600 bytes; this leaves room for more of both. */
export const torrentInfoMaxBytes = 4096;

/**
 * Two keys while one replaces the other, two more for whoever signs a catalog again; each costs a verifier up to 0.1
 * ms.
 */
export const torrentInfoSigsMax = 8;

/** The largest FileSize and NarSize, 1 TiB: no canonical torrent is longer. */
export const torrentInfoSizeMaxBytes = 2 ** 40;

/** Parses what came from outside. Throws torrentinfo-corrupt with the offset. Says nothing about the signatures. */
export function parseTorrentInfo(input: string | Uint8Array): TorrentInfo {
  if (input.length > torrentInfoMaxBytes)
    throw corrupt(`longer than ${torrentInfoMaxBytes} bytes`, torrentInfoMaxBytes);
  const text = typeof input === 'string' ? input : Buffer.from(input).toString('latin1');
  const usual = readUsual(text);
  if (usual !== undefined) return usual;
  const fields = readFields(text);
  const fileHash = fields.one('FileHash', readHash);
  const fileSize = fields.one('FileSize', readSize);
  const compression = fields.one('Compression', readCompression);
  const narHash = fields.one('NarHash', readHash);
  const narSize = fields.one('NarSize', readSize);
  const infoHash = fields.one('InfoHash', readInfoHash);
  const narInfoHash = fields.one('NarInfoHash', readInfoHash);
  const sigs = fields.many('Sig', torrentInfoSigsMax);
  const t = { fileHash, fileSize, compression, narHash, narSize, infoHash, narInfoHash, sigs };
  checkConsistent(t, text.length);
  return t;
}

/** Lines as they are printed and no others, by one pattern: in a fifth of the time, and a catalog has millions. */
const usualPattern = new RegExp(
  [
    '^FileHash: (sha256:.{52})',
    'FileSize: ([0-9]{1,16})',
    'Compression: ([a-z0-9]{1,8})',
    'NarHash: (sha256:.{52})',
    'NarSize: ([0-9]{1,16})',
    'InfoHash: ([0-9a-f]{40})',
    'NarInfoHash: ([0-9a-f]{40})',
    '((?:Sig: [\\x20-\\x7e]+\\n){0,8})$',
  ].join('\\n'),
);

/** `undefined` when it has another form, or is wrong: then it is read line by line. */
function readUsual(text: string): TorrentInfo | undefined {
  const match = usualPattern.exec(text);
  if (match === null) return undefined;
  const [, fileHashText = '', fileSizeText = '', compression = '', narHashText = ''] = match;
  const [narSizeText = '', infoHash = '', narInfoHash = '', sigLines = ''] = match.slice(5);
  const fileHash = readHash(fileHashText);
  const fileSize = readSize(fileSizeText);
  const narHash = readHash(narHashText);
  const narSize = readSize(narSizeText);
  if (fileHash === undefined || fileSize === undefined || narHash === undefined || narSize === undefined)
    return undefined;
  if (!isCompression(compression)) return undefined;
  const sigs = sigLines === '' ? [] : sigLines.slice('Sig: '.length, -1).split('\nSig: ');
  const infoHashes = { infoHash: infoHash as InfoHash, narInfoHash: narInfoHash as InfoHash };
  const t = { fileHash, fileSize, compression, narHash, narSize, ...infoHashes, sigs };
  checkConsistent(t, text.length);
  return t;
}

/** The text of a torrentinfo, its lines in their one order. */
export function printTorrentInfo(t: TorrentInfo): string {
  const lines = [
    `FileHash: ${printSha256(t.fileHash)}`,
    `FileSize: ${t.fileSize}`,
    `Compression: ${t.compression}`,
    `NarHash: ${printSha256(t.narHash)}`,
    `NarSize: ${t.narSize}`,
    `InfoHash: ${t.infoHash}`,
    `NarInfoHash: ${t.narInfoHash}`,
    ...t.sigs.map((sig) => `Sig: ${sig}`),
  ];
  return `${lines.join('\n')}\n`;
}

/** The text that a signature covers: everything but the signatures. */
export function torrentInfoText(t: Omit<TorrentInfo, 'sigs'>): string {
  const values = [
    printSha256(t.fileHash),
    t.fileSize,
    t.compression,
    printSha256(t.narHash),
    t.narSize,
    t.infoHash,
    t.narInfoHash,
  ];
  return `narswarm-1;${values.join(';')}`;
}

/**
 * `t` with a signature by `secret` after those it has; one under the same key name is replaced.
 * Throws torrentinfo-corrupt rather than sign what no parser would take.
 */
export function signTorrentInfo(
  t: Omit<TorrentInfo, 'sigs'> & { sigs?: readonly string[] },
  secret: SecretKey,
): TorrentInfo {
  const others = (t.sigs ?? []).filter((sig) => !sig.startsWith(`${secret.name}:`));
  const signed = { ...t, sigs: [...others, sign(secret, torrentInfoText(t))] };
  parseTorrentInfo(printTorrentInfo(signed));
  return signed;
}

/** The name of the first key of `keys` that signed `t`; undefined when none did. */
export function verifyTorrentInfo(t: TorrentInfo, keys: readonly PublicKey[]): string | undefined {
  return verifySignatures(keys, torrentInfoText(t), t.sigs);
}

/** The same beside this thread. */
export function verifyTorrentInfoAside(
  t: TorrentInfo,
  keys: readonly PublicKey[],
): Promise<string | undefined> {
  return verifySignaturesAside(keys, torrentInfoText(t), t.sigs);
}

/** `<FileHash>.torrentinfo`, the file name of a torrentinfo. */
export function torrentInfoName(fileHash: Sha256): string {
  return `${fileHash}.torrentinfo`;
}

function checkConsistent(t: TorrentInfo, offset: number): void {
  const same = t.fileHash === t.narHash && t.fileSize === t.narSize && t.infoHash === t.narInfoHash;
  if (t.compression === 'none' && !same) {
    throw corrupt('with Compression none the NAR file is the NAR, and so are hash, size and torrent', offset);
  }
}

interface Field {
  readonly value: string;
  /** Of the value. */
  readonly offset: number;
}

class Fields {
  readonly #fields: Map<string, Field[]>;
  readonly #endOffset: number;

  constructor(fields: Map<string, Field[]>, endOffset: number) {
    this.#fields = fields;
    this.#endOffset = endOffset;
  }

  /** The value of a field that must be there once. */
  one<T>(name: string, read: (value: string) => T | undefined): T {
    const [field, second] = this.#fields.get(name) ?? [];
    if (field === undefined) throw corrupt(`${name} is missing`, this.#endOffset);
    if (second !== undefined) throw corrupt(`${name} comes twice`, second.offset);
    let value: T | undefined;
    try {
      value = read(field.value);
    } catch (cause) {
      throw corrupt(`bad ${name}`, field.offset, cause);
    }
    if (value === undefined) throw corrupt(`bad ${name}`, field.offset);
    return value;
  }

  many(name: string, max: number): string[] {
    const fields = this.#fields.get(name) ?? [];
    const tooMany = fields[max];
    if (tooMany !== undefined) throw corrupt(`more than ${max} lines ${name}`, tooMany.offset);
    return fields.map(({ value }) => value);
  }
}

function readFields(text: string): Fields {
  const fields = new Map<string, Field[]>();
  for (const { name, value, offset } of textLines(text, corrupt)) {
    const field = { value, offset: offset + name.length + 2 };
    const others = fields.get(name);
    if (others === undefined) fields.set(name, [field]);
    else others.push(field);
  }
  return new Fields(fields, text.length);
}

/**
 * Only the spelling that is printed is taken, so that a torrentinfo has one signed text. The first of 52 digits carries one bit. The pattern says
 * all that parsing and printing would, in a tenth of the time: a catalog has millions of them.
 */
const hashPattern = /^sha256:([01][0-9a-df-np-sv-z]{51})$/;

function readHash(value: string): Sha256 | undefined {
  return hashPattern.exec(value)?.[1] as Sha256 | undefined;
}

function readInfoHash(value: string): InfoHash | undefined {
  const hash = parseInfoHash(value);
  return hash === value ? hash : undefined;
}

function readSize(value: string): number | undefined {
  if (!/^[1-9][0-9]{0,15}$/.test(value)) return undefined;
  const size = Number(value);
  return size <= torrentInfoSizeMaxBytes ? size : undefined;
}

function readCompression(value: string): Compression | undefined {
  return isCompression(value) ? value : undefined;
}

function corrupt(what: string, offset: number, cause?: unknown): NarswarmError {
  const message = `torrentinfo: ${what}, at byte ${offset}`;
  return new NarswarmError(
    'torrentinfo-corrupt',
    message,
    cause === undefined ? { offset } : { offset, cause },
  );
}
