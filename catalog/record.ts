/**
 * The records of a catalog's log, and how each is framed: a line `<kind> <arguments> <bytes>` and that many bytes. The
 * rules are in docs/format.md.
 */

import { NarswarmError } from '../nar/errors.ts';
import type { InfoHash, Sha256 } from '../nar/hash.ts';
import { narInfoMaxBytes, parseNarInfo } from '../nar/narinfo.ts';
import { type StoreHash, storeDirOf, storeHashOf } from '../nar/store-path.ts';
import { usualNarInfo } from '../nar/usual-narinfo.ts';
import { type Pack, parsePack } from './pack.ts';
import { parseTorrentInfo, type TorrentInfo, torrentInfoMaxBytes } from './torrentinfo.ts';

export type CatalogRecord =
  | { readonly kind: 'torrentinfo'; readonly text: string }
  /** As upstream served it. The FileHash stands beside it, since the text need not have one. */
  | { readonly kind: 'narinfo'; readonly fileHash: Sha256; readonly text: string }
  /** The signed manifest of a pack. */
  | { readonly kind: 'pack'; readonly infoHash: InfoHash; readonly text: string }
  | Revocation;

/** A NAR file that was found wrong after it was published: whoever follows drops it and never takes it again. */
export interface Revocation {
  readonly kind: 'revocation';
  readonly fileHash: Sha256;
  /** Seconds since 1970. */
  readonly time: number;
  /** One line for people. */
  readonly reason: string;
}

/** A record that was read: what its text says. */
export type DecodedRecord =
  | { readonly kind: 'torrentinfo'; readonly torrentInfo: TorrentInfo }
  | DecodedNarInfo
  | { readonly kind: 'pack'; readonly pack: Pack; readonly text: string }
  | Revocation;

export interface DecodedNarInfo {
  readonly kind: 'narinfo';
  readonly fileHash: Sha256;
  readonly storeDir: string;
  readonly storeHash: StoreHash;
  readonly text: string;
}

/** A record as it stands in a segment. A kind that is not known is one of a later version, and is passed over. */
export interface FramedRecord {
  readonly kind: string;
  readonly args: readonly string[];
  readonly body: Buffer;
  /** The line and the body: what the chain goes over. */
  readonly framed: Buffer;
}

/** Bytes of the line before a record, its newline included. The longest of today has 71. */
export const recordLineMaxBytes = 256;
/** A pack of 256 MiB of the smallest NAR files has some 100,000 lines in its manifest; no narinfo has more than 4 MiB. */
export const recordMaxBytes = 16 << 20;
/** Bytes of the reason of a revocation. */
export const revocationReasonMaxBytes = 1024;
/** Seconds since 1970 up to the year 9999. */
export const timeMaxSeconds = 253_402_300_799;

const linePattern = /^([a-z][a-z0-9-]{0,31})((?: [\x21-\x7e]{1,128}){0,3}) (0|[1-9][0-9]{0,7})$/;

/** The bytes of a record in a segment. Throws record-corrupt rather than write what no reader would take. */
export function frameRecord(record: CatalogRecord): Buffer {
  const body = Buffer.from(record.kind === 'revocation' ? record.reason : record.text);
  const line = Buffer.from([record.kind, ...argsOf(record), body.length].join(' '));
  const framed = Buffer.concat([line, Buffer.from('\n'), body]);
  decodeRecord(frameOf(line, framed));
  return framed;
}

/** `line`: without its newline. Throws segment-corrupt; the body need not be there yet. */
export function parseRecordLine(line: Buffer): { kind: string; args: string[]; bodyBytes: number } {
  const [, kind, args, bytes] = linePattern.exec(line.toString('latin1')) ?? [];
  if (kind === undefined || args === undefined) {
    throw new NarswarmError(
      'segment-corrupt',
      'the line before a record is not `<kind> <arguments> <bytes>`',
    );
  }
  const bodyBytes = Number(bytes);
  if (bodyBytes > recordMaxBytes) {
    throw new NarswarmError('segment-corrupt', `a record of ${bodyBytes} bytes, more than ${recordMaxBytes}`);
  }
  return { kind, args: args === '' ? [] : args.slice(1).split(' '), bodyBytes };
}

/**
 * What a record says; `undefined` for a kind that is not known. Throws record-corrupt: of what it gives back, every
 * later reader may rely on the rules of its format.
 */
export function decodeRecord(record: FramedRecord): DecodedRecord | undefined {
  const { kind, args, body } = record;
  try {
    switch (kind) {
      case 'torrentinfo':
        checkCount(args, 0);
        checkSize(body, torrentInfoMaxBytes);
        return { kind, torrentInfo: parseTorrentInfo(body) };
      case 'narinfo': {
        const fileHash = readFileHash(args, 1);
        checkSize(body, narInfoMaxBytes);
        const narInfo = readNarInfo(body);
        if (narInfo.fileHash !== undefined && narInfo.fileHash !== fileHash)
          throw new Error('its FileHash is another one');
        return { kind, ...narInfo, fileHash };
      }
      case 'pack': {
        checkCount(args, 1);
        const pack = parsePack(body);
        if (pack.infoHash !== args[0]) throw new Error('its infohash is another one');
        return { kind, pack, text: body.toString('latin1') };
      }
      case 'revocation': {
        const fileHash = readFileHash(args, 2);
        return { kind, fileHash, time: readTime(args[1] ?? ''), reason: readReason(body) };
      }
      default:
        return undefined;
    }
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new NarswarmError('record-corrupt', `${kind} record: ${why}`, { cause });
  }
}

function readNarInfo(body: Buffer) {
  const usualText = body.toString('latin1');
  const usual = usualNarInfo(usualText);
  if (usual !== undefined) return { ...usual, text: usualText };
  const { storePath, fileHash, text } = parseNarInfo(body);
  return { storeDir: storeDirOf(storePath), storeHash: storeHashOf(storePath), fileHash, text };
}

/** Seconds since 1970, in their one spelling. */
export function readTime(text: string): number {
  const time = /^(0|[1-9][0-9]{0,11})$/.test(text) ? Number(text) : Number.NaN;
  if (!(time <= timeMaxSeconds)) throw new Error('not a time in seconds since 1970');
  return time;
}

/** A SHA-256 in its one spelling here: 52 nix32 digits, of which the first carries one bit. */
export function readSha256(text: string): Sha256 {
  if (!/^[01][0-9a-df-np-sv-z]{51}$/.test(text)) throw new Error('not a hash in nix32');
  return text as Sha256;
}

function argsOf(record: CatalogRecord): string[] {
  switch (record.kind) {
    case 'torrentinfo':
      return [];
    case 'narinfo':
      return [record.fileHash];
    case 'pack':
      return [record.infoHash];
    case 'revocation':
      return [record.fileHash, String(record.time)];
  }
}

function frameOf(line: Buffer, framed: Buffer): FramedRecord {
  const { kind, args } = parseRecordLine(line);
  return { kind, args, body: framed.subarray(line.length + 1), framed };
}

function readFileHash(args: readonly string[], count: number): Sha256 {
  checkCount(args, count);
  return readSha256(args[0] ?? '');
}

function checkCount(args: readonly string[], count: number): void {
  if (args.length !== count) throw new Error(`${args.length} arguments instead of ${count}`);
}

function checkSize(body: Buffer, maxBytes: number): void {
  if (body.length > maxBytes) throw new Error(`longer than ${maxBytes} bytes`);
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Control characters would change what a terminal or a log shows. */
const controlPattern = /[\p{Cc}\p{Zl}\p{Zp}]/u;

function readReason(body: Buffer): string {
  checkSize(body, revocationReasonMaxBytes);
  const reason = utf8.decode(body);
  if (reason === '' || controlPattern.test(reason)) throw new Error('its reason is not one line of text');
  return reason;
}
