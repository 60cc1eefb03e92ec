/** Puts verified NAR files into the catalog. */

import type { Catalog, NarFileEntry, NarInfoKey } from '../catalog/catalog.ts';
import { signTorrentInfo, verifyTorrentInfo } from '../catalog/torrentinfo.ts';
import type { Compression } from '../nar/compression.ts';
import { isNarswarmError } from '../nar/errors.ts';
import type { NarInfo } from '../nar/narinfo.ts';
import { publicKeyOf, type SecretKey } from '../nar/signature.ts';
import type { SignedNarFile } from './verify-worker.ts';

/** Takes what was verified and signed into the catalog, in one transaction. `path`: relative to the source or the store. */
export function recordVerified(
  catalog: Catalog,
  key: NarInfoKey,
  narInfo: NarInfo,
  verified: SignedNarFile & { compression: Compression; path: string },
): void {
  const { file, nar, fileHash, fileSize, compression, path, mtimeNs, sigs } = verified;
  const { narHash, narSize } = narInfo;
  const hashes = { fileHash, narHash, infoHash: file.infoHash, narInfoHash: nar.infoHash };
  const location = { source: key.source, path, sizeBytes: fileSize, mtimeNs };
  catalog.accept({
    ...key,
    narInfo,
    entry: { ...hashes, fileSize, compression, narSize, sigs, location },
    filePieces: file.pieces,
    narPieces: nar.pieces,
  });
}

/**
 * Takes in a narinfo whose NAR file `entry` was verified before, and has not changed since. False when the catalog has
 * lost it meanwhile. Throws a mismatch when the narinfo says other things than were verified.
 */
export function recordKnown(
  { catalog, secretKey }: { catalog: Catalog; secretKey: SecretKey },
  key: NarInfoKey,
  narInfo: NarInfo,
  entry: NarFileEntry,
): boolean {
  const filePieces = catalog.pieces(entry.infoHash);
  const narPieces = catalog.pieces(entry.narInfoHash);
  if (filePieces === undefined || narPieces === undefined) return false;
  try {
    catalog.acceptAlias({ ...key, narInfo, fileHash: entry.fileHash });
  } catch (error) {
    if (isNarswarmError(error, 'not-held')) return false;
    throw error;
  }
  // Signed by a key that is no longer ours: signed anew, as nothing else about it changes.
  if (verifyTorrentInfo(entry, [publicKeyOf(secretKey)]) === undefined) {
    const resigned = { ...signTorrentInfo(entry, secretKey), location: entry.location };
    const same = entry.location.source === key.source;
    if (same) catalog.accept({ ...key, narInfo, entry: resigned, filePieces, narPieces });
  }
  return true;
}
