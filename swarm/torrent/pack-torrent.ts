/**
 * The torrent of a pack: many small NAR files with their narinfos, laid out as a binary cache. Canonical as well: it follows from the
 * pack's manifest and the files' bytes. BitTorrent v1 (BEP 3), several files. The rules are in docs/format.md.
 */

import { NarswarmError } from '../../nar/errors.ts';
import type { InfoHash } from '../../nar/hash.ts';
import { PieceHasher } from './piece-hasher.ts';
import { pieceCount, pieceHashBytes } from './pieces.ts';
import { type InfoBytes, infoHashOf, type Torrent } from './torrent.ts';

export interface PackTorrentFile {
  /** Names of directories and file: `nar`, `<FileHash>.nar.xz`. */
  readonly path: readonly string[];
  /** In bytes; at least 1. */
  readonly sizeBytes: number;
}

/** The smallest that BitTorrent programs agree on: whoever wants one NAR file fetches little of its neighbours. */
export const packPieceLength = 65_536;

/** As in the manifest: see catalog/pack.ts, which cannot be imported here. */
export const packTorrentFilesMax = 16_384;
export const packTorrentMaxBytes = 2 ** 31;

/** At most 100 bytes for each file, the piece table of the longest pack, 655,360 bytes, and 256 for the rest. */
export const packInfoMaxBytes =
  packTorrentFilesMax * 100 + (packTorrentMaxBytes / packPieceLength) * pieceHashBytes + 256;

/** Throws torrent-invalid for what no pack can have. `pieces`: the digests of the bytes of all files, one after the other. */
export function makePackTorrent(parts: {
  name: string;
  files: readonly PackTorrentFile[];
  pieces: Buffer;
}): Torrent {
  const { name, files, pieces } = parts;
  const length = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  checkFiles(name, files, length);
  return build(name, files, length, pieces);
}

/** `files` have been checked. */
function build(name: string, files: readonly PackTorrentFile[], length: number, pieces: Buffer): Torrent {
  const cut = { length, pieceLength: packPieceLength };
  const expectedBytes = pieceCount(cut) * pieceHashBytes;
  if (pieces.length !== expectedBytes)
    throw invalid(`${pieces.length} bytes of piece hashes, not ${expectedBytes}`);
  // All but the piece table is ASCII. By hand: the general encoder would make ten small buffers for each file.
  const list = files.map(({ path, sizeBytes }) => {
    const names = path.map((part) => `${part.length}:${part}`).join('');
    return `d6:lengthi${sizeBytes}e4:pathl${names}ee`;
  });
  const head = `d5:filesl${list.join('')}e4:name${name.length}:${name}12:piece lengthi${packPieceLength}e`;
  const info = Buffer.concat([
    Buffer.from(`${head}6:pieces${pieces.length}:`, 'latin1'),
    pieces,
    Buffer.from('e', 'latin1'),
  ]);
  return {
    infoHash: infoHashOf(info),
    name,
    ...cut,
    pieces,
    info: { lengthBytes: info.length, read: () => info },
  };
}

/** Makes the torrent of a pack from the bytes of its files, in their order. Memory does not grow with them. */
export class PackHasher {
  readonly #name: string;
  readonly #files: readonly PackTorrentFile[];
  readonly #pieces: PieceHasher;

  /** Throws torrent-invalid for what no pack can have. */
  constructor(name: string, files: readonly PackTorrentFile[]) {
    const length = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    checkFiles(name, files, length);
    this.#name = name;
    this.#files = files;
    this.#pieces = new PieceHasher(length, packPieceLength);
  }

  /** Bytes of all files. */
  get lengthBytes(): number {
    return this.#pieces.lengthBytes;
  }

  /** Throws torrent-invalid, and takes nothing of `chunk`, when it would go past the length. */
  write(chunk: Uint8Array): void {
    this.#pieces.write(chunk);
  }

  /** After all bytes; throws torrent-invalid after fewer. */
  finish(): Torrent {
    return build(this.#name, this.#files, this.lengthBytes, this.#pieces.digests());
  }
}

const namePattern = /^[01][0-9a-df-np-sv-z]{51}\.pack$/;
const cacheInfoName = 'nix-cache-info';
const narInfoName = /^[0-9a-df-np-sv-z]{32}\.narinfo$/;
const narFileName = /^([01][0-9a-df-np-sv-z]{51})\.nar(?:\.xz|\.zst|\.bz2|\.br|\.gz)?$/;

/** True when bytes look like the info dictionary of a pack, and like that of no other torrent. */
export function isPackInfo(bytes: Uint8Array): boolean {
  return Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 9)).equals(packStart);
}

const packStart = Buffer.from('d5:filesl', 'latin1');

/** The torrent of a pack and its files. Throws torrent-invalid unless `bytes` are a canonical info dictionary to the last byte. */
export function parsePackInfo(bytes: Uint8Array): { torrent: Torrent; files: PackTorrentFile[] } {
  if (bytes.length > packInfoMaxBytes) throw invalid(`an info dictionary of ${bytes.length} bytes`);
  // A copy, which the torrent keeps.
  const info = Buffer.from(bytes);
  const { files, end } = readFileList(info);
  const tail = info.toString('latin1', end, end + tailMaxBytes);
  const [head, name = '', piecesBytes] = tailPattern.exec(tail) ?? [];
  if (head === undefined) throw invalid('not the four keys of a pack');
  const piecesStart = end + head.length;
  const pieces = info.subarray(piecesStart, piecesStart + Number(piecesBytes));
  const torrent = makePackTorrent({ name, files, pieces });
  // Whatever else it may be, it is what the rules make of these parts, or it is refused.
  if (!torrent.info?.read().equals(info)) throw invalid('not canonical');
  return { torrent, files };
}

/**
 * The torrent of a pack whose info dictionary was made here, and is kept elsewhere: it is read once, for the name and the piece table. Throws
 * torrent-invalid when it is not the one of that infohash.
 */
export function packTorrentOf(parts: { infoHash: InfoHash; length: number; info: InfoBytes }): Torrent {
  const { infoHash, length, info } = parts;
  const bytes = info.read();
  const cut = { length, pieceLength: packPieceLength };
  const pieces = Buffer.from(bytes.subarray(-1 - pieceCount(cut) * pieceHashBytes, -1));
  const end = bytes.length - 1 - pieces.length;
  const tail = bytes.toString('latin1', end - tailMaxBytes, end);
  const [, name] = /e4:name57:([\x20-\x7e]{57})12:piece lengthi65536e6:pieces/.exec(tail) ?? [];
  if (name === undefined || infoHashOf(bytes) !== infoHash) throw invalid('not its info dictionary');
  return { infoHash, name, ...cut, pieces, info };
}

const filePattern = /d6:lengthi([1-9][0-9]{0,9})e4:pathl(?:3:(nar))?([1-9][0-9]):/y;
const tailPattern = /^e4:name57:([\x20-\x7e]{57})12:piece lengthi65536e6:pieces([1-9][0-9]{0,6}):/;
const tailMaxBytes = 128;

function readFileList(info: Buffer): { files: PackTorrentFile[]; end: number } {
  if (!isPackInfo(info)) throw invalid('no list of files');
  const text = info.toString('latin1');
  const files: PackTorrentFile[] = [];
  let at = packStart.length;
  for (;;) {
    filePattern.lastIndex = at;
    const [head, length, directory, nameLength] = filePattern.exec(text) ?? [];
    if (head === undefined || files.length === packTorrentFilesMax) return { files, end: at };
    const nameStart = at + head.length;
    const nameEnd = nameStart + Number(nameLength);
    const name = text.slice(nameStart, nameEnd);
    files.push({ path: directory === undefined ? [name] : [directory, name], sizeBytes: Number(length) });
    at = nameEnd + 2;
  }
}

/** nix-cache-info, then narinfos, then NAR files, each once: what a program that downloads it writes is nothing else. */
function checkFiles(name: string, files: readonly PackTorrentFile[], length: number): void {
  if (!namePattern.test(name)) throw invalid(`${JSON.stringify(name)} is not the name of a pack`);
  if (files.length > packTorrentFilesMax || length > packTorrentMaxBytes)
    throw invalid(`${files.length} files of ${length} bytes`);
  const seen = new Set<string>();
  let narFiles = 0;
  for (const [index, { path, sizeBytes }] of files.entries()) {
    const [first = '', second = '', ...more] = path;
    const narFile = path.length === 2 && first === 'nar' ? narFileName.exec(second)?.[1] : undefined;
    const narInfo = path.length === 1 && narInfoName.test(first) ? first : undefined;
    const key = narFile ?? narInfo ?? first;
    const inTurn =
      index === 0 ? path.length === 1 && first === cacheInfoName : (narFile ?? (narFiles === 0 && narInfo));
    if (!inTurn || more.length > 0) throw invalid(`${path.join('/')} is not what comes next in a pack`);
    if (seen.has(key)) throw invalid(`${path.join('/')} comes twice`);
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 1) throw invalid(`a file of ${sizeBytes} bytes`);
    seen.add(key);
    if (narFile !== undefined) narFiles++;
  }
  if (narFiles === 0 || files.length - narFiles < 2) throw invalid('it has no narinfo or no NAR file');
}

function invalid(what: string): NarswarmError {
  return new NarswarmError('torrent-invalid', `pack: ${what}`);
}
