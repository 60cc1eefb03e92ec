/** ut_metadata (BEP 9): how peers that have only a magnet link get the info dictionary, in pieces of 16 KiB. */
import { NarswarmError } from '../../nar/errors.ts';
import { bencode } from '../bencode.ts';
import { parseExtensionDictionary } from '../wire/extension.ts';
import { metadataPieceBytes } from '../wire/limits.ts';

export type MetadataMessage =
  | { type: 'request'; piece: number }
  /** `bytes` is a view of the payload. */
  | { type: 'data'; piece: number; totalBytes: number; bytes: Buffer }
  | { type: 'reject'; piece: number };

const messageTypes = { request: 0, data: 1, reject: 2 } as const;

/** How many pieces metadata of `totalBytes` has. */
export function metadataPieceCount(totalBytes: number): number {
  return Math.ceil(totalBytes / metadataPieceBytes);
}

/** The payload that asks for a piece, or refuses one. */
export function encodeMetadata(type: 'request' | 'reject', piece: number): Buffer {
  return bencode({ msg_type: messageTypes[type], piece });
}

/** The payload with piece `piece` of the info dictionary, as parts: the bytes are a view. */
export function encodeMetadataData(infoDictionary: Buffer, piece: number): [Buffer, Buffer] {
  const start = piece * metadataPieceBytes;
  return [
    bencode({ msg_type: messageTypes.data, piece, total_size: infoDictionary.length }),
    infoDictionary.subarray(start, start + metadataPieceBytes),
  ];
}

/** Reads a ut_metadata payload; `undefined` for a type that BEP 9 does not know, which it wants ignored. Throws `wire-violation`. */
export function parseMetadata(payload: Buffer): MetadataMessage | undefined {
  const { dictionary, rest } = parseExtensionDictionary(payload);
  const type = dictionary.get('msg_type');
  const piece = dictionary.get('piece');
  if (typeof type !== 'number' || typeof piece !== 'number' || piece < 0)
    throw new NarswarmError('wire-violation', 'a metadata message without a type or piece');
  if (type === messageTypes.request) return { type: 'request', piece };
  if (type === messageTypes.reject) return { type: 'reject', piece };
  if (type !== messageTypes.data) return undefined;
  const totalBytes = dictionary.get('total_size');
  if (typeof totalBytes !== 'number' || totalBytes < 1 || rest.length > metadataPieceBytes)
    throw new NarswarmError('wire-violation', 'metadata without a size, or a piece that is too large');
  return { type: 'data', piece, totalBytes, bytes: rest };
}
