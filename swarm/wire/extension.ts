/** The extension protocol (BEP 10): the extended handshake, which says who speaks which extension under which number. */
import { isNarswarmError, NarswarmError } from '../../nar/errors.ts';
import type { BencodeDictionary } from '../bencode.ts';
import { bencode, parseBencodePrefix } from '../bencode.ts';
import { blockBytes, blockMaxBytes, extensionDepthMax, extensionValuesMax } from './limits.ts';

/** The numbers that we give to extensions: a peer puts them in front of what it sends to us. */
export const ourExtensions = { ut_metadata: 1 } as const;

/**
 * Our own: a seed that deals says with it, in one byte, that the peer is to ask for suggested pieces only (1) or for anything (0). A peer
 * announces it when it shares what it fetches.
 */
export const dealExtension = { ns_deal: 2 } as const;

export interface ExtendedHandshake {
  /** The numbers that the peer gave to extensions, from 1 to 255. Those it switched off (0) are left out. */
  extensions: Map<string, number>;
  /** BEP 9: bytes of the info dictionary, if the peer has it. */
  metadataBytes?: number;
  /** Requests that the peer lets wait. */
  requestsQueuedMax?: number;
  /** BEP 21: the peer will not download. */
  uploadOnly: boolean;
  /** Where the peer listens. */
  listenPort?: number;
  /** Bytes of the largest block that it gives, when it says so; more than `blockBytes` and at most `blockMaxBytes`. */
  blockMaxBytes?: number;
  /** What the peer calls itself, at most 64 characters; not to be trusted. */
  client?: string;
}

/** The payload of our extended handshake, for `encodeExtended(0, …)`. Leave out `metadataBytes` without the info dictionary. */
export function encodeExtendedHandshake(handshake: {
  metadataBytes?: number;
  requestsQueuedMax: number;
  uploadOnly: boolean;
  /** It deals pieces out, or takes part in it. */
  deals?: boolean;
  /** Where others reach it. */
  listenPort?: number;
  /** Bytes of the largest block that it gives: our own key, `ns_block`. Others are asked for blocks of the usual size. */
  blockMaxBytes?: number;
}): Buffer {
  const { metadataBytes, requestsQueuedMax, uploadOnly, deals = false, listenPort } = handshake;
  const { blockMaxBytes: ns_block } = handshake;
  return bencode({
    m: { ...(deals ? dealExtension : {}), ...ourExtensions },
    ...(metadataBytes === undefined ? {} : { metadata_size: metadataBytes }),
    ...(ns_block === undefined ? {} : { ns_block }),
    ...(listenPort === undefined ? {} : { p: listenPort }),
    reqq: requestsQueuedMax,
    ...(uploadOnly ? { upload_only: 1 } : {}),
    v: 'narswarm',
  });
}

/** Reads the payload of extended message 0. Unknown keys and odd values are ignored; throws `wire-violation` if it is no dictionary. */
export function parseExtendedHandshake(payload: Buffer): ExtendedHandshake {
  const { dictionary } = parseExtensionDictionary(payload);
  const names = dictionary.get('m');
  const extensions = new Map<string, number>();
  if (names instanceof Map) {
    for (const [name, id] of names) {
      if (typeof id === 'number' && id >= 1 && id <= 255) extensions.set(name, id);
    }
  }
  const metadataBytes = dictionary.get('metadata_size');
  const requestsQueuedMax = dictionary.get('reqq');
  const client = dictionary.get('v');
  const listenPort = dictionary.get('p');
  const largest = dictionary.get('ns_block');
  return {
    extensions,
    ...(isCount(metadataBytes) ? { metadataBytes } : {}),
    ...(isCount(requestsQueuedMax) ? { requestsQueuedMax } : {}),
    ...(isCount(listenPort) && listenPort < 65_536 ? { listenPort } : {}),
    ...(isCount(largest) && largest > blockBytes ? { blockMaxBytes: Math.min(largest, blockMaxBytes) } : {}),
    uploadOnly: dictionary.get('upload_only') === 1,
    ...(Buffer.isBuffer(client) ? { client: client.toString('utf8').slice(0, 64) } : {}),
  };
}

/** The dictionary at the front of an extended message, and the bytes after it. Throws `wire-violation`. */
export function parseExtensionDictionary(payload: Buffer): { dictionary: BencodeDictionary; rest: Buffer } {
  try {
    const { value, lengthBytes } = parseBencodePrefix(payload, {
      depthMax: extensionDepthMax,
      valuesMax: extensionValuesMax,
      anyKeyOrder: true,
    });
    if (value instanceof Map) return { dictionary: value, rest: payload.subarray(lengthBytes) };
  } catch (cause) {
    if (!isNarswarmError(cause, 'bencode-invalid')) throw cause;
    throw new NarswarmError('wire-violation', 'an extended message is not bencode', { cause });
  }
  throw new NarswarmError('wire-violation', 'an extended message is not a dictionary');
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && value > 0;
}
