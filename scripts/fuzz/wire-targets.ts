/** The peer wire protocol, from either side: chunks change nothing, and nothing but `wire-violation` is thrown. */

import { isNarswarmError } from '../../nar/errors.ts';
import { infoHashFromDigest } from '../../nar/hash.ts';
import { type BencodeInput, bencode, parseBencode, parseBencodePrefix } from '../../swarm/bencode.ts';
import { encodeMetadata, encodeMetadataData, parseMetadata } from '../../swarm/torrent/metadata.ts';
import { encodeExtendedHandshake, parseExtendedHandshake } from '../../swarm/wire/extension.ts';
import { blockBytes, controlMessageMaxBytes } from '../../swarm/wire/limits.ts';
import { WireDecoder, type WireVisitor } from '../../swarm/wire/wire.ts';
import {
  encodeBitfield,
  encodeCancels,
  encodeExtended,
  encodeIndexed,
  encodeKeepAlive,
  encodePieceHeader,
  encodeRejects,
  encodeRequests,
  encodeSimple,
  fullBitfield,
} from '../../swarm/wire/wire-encode.ts';
import { encodeHandshake, HandshakeReader, parseHandshake } from '../../swarm/wire/wire-handshake.ts';
import { bencodeWords, nearly, randomBencode } from './bencode-inputs.ts';
import type { Random } from './random.ts';
import { holds, type Target, unlessRefused, type Verdict } from './target.ts';

/** Pieces of the torrent that is talked about: its bitfield has two bytes and three spare bits. */
const pieces = 13;

const violation = ['wire-violation'] as const;

const wireWords = [
  '\0\0\0\x00',
  '\0\0\0\x01\x02',
  '\0\0\0\x03\x05\xff\xf8',
  '\0\0\0\x05\x04\0\0\0\x0d',
  '\0\0\0\x0d\x06',
  '\0\0\x40\x09\x07',
  '\0\0\0\x02\x14\0',
  '\0\0\x80\0\x14\x01',
  '\x7f\xff\xff\xff',
  ...bencodeWords,
];

/** Every message there is, mostly with values that fit. */
const messages: readonly [(random: Random) => Buffer, ...((random: Random) => Buffer)[]] = [
  encodeKeepAlive,
  (random) =>
    encodeSimple(
      random.pick(['choke', 'unchoke', 'interested', 'notInterested', 'haveAll', 'haveNone'] as const),
    ),
  (random) =>
    encodeIndexed(random.pick(['have', 'suggest', 'allowedFast'] as const), random.below(pieces + 1)),
  (random) => encodeBitfield(random.oneIn(2) ? fullBitfield(pieces) : random.bytes(2)),
  (random) => encodeRequests(Array.from({ length: 1 + random.below(3) }, () => block(random))),
  (random) => encodeCancels([block(random)]),
  (random) => encodeRejects([block(random)]),
  (random) => {
    const lengthBytes = 1 + random.below(64);
    return Buffer.concat([encodePieceHeader({ ...block(random), lengthBytes }), random.bytes(lengthBytes)]);
  },
  (random) => encodeExtended(random.below(3), extensionPayload(random)),
  (random) => Buffer.concat([Buffer.from([0, 0, 0, 3, 9]), random.bytes(2)]),
  (random) => {
    const lengthBytes = random.below(40);
    return Buffer.concat([
      Buffer.from([0, 0, 0, lengthBytes + 1, 20 + random.below(200)]),
      random.bytes(lengthBytes),
    ]);
  },
];

function block(random: Random): { index: number; begin: number; lengthBytes: number } {
  const wild = random.oneIn(8);
  return {
    index: wild ? random.uint32() : random.below(pieces),
    begin: wild ? random.uint32() : random.below(4) * blockBytes,
    lengthBytes: wild ? random.uint32() : blockBytes,
  };
}

function extensionPayload(random: Random): Buffer {
  if (random.oneIn(3)) {
    const piece = random.number();
    if (random.oneIn(4)) return Buffer.concat(encodeMetadataData(random.bytes(50), 0));
    return encodeMetadata(random.pick(['request', 'reject'] as const), piece);
  }
  return nearly(random, {
    m: { ut_metadata: random.below(300), ut_pex: random.below(4), x: randomBencode(random, ['a']) },
    metadata_size: random.number(),
    reqq: random.number(),
    upload_only: random.below(3),
    v: random.bytes(random.below(80)),
  });
}

/** What a decoder told, in a form in which it does not matter where the chunks of a block ended. */
function toldBy(blockMaxBytes: number, chunks: Iterable<Buffer>): { told: string; error: unknown } {
  let told = 0;
  let events = 0;
  let left = 0;
  const note = (...what: (string | number)[]): void => {
    events++;
    for (const each of what) {
      if (typeof each === 'number') told = fold(told, each);
      else for (let i = 0; i < each.length; i++) told = fold(told, each.charCodeAt(i));
    }
  };
  const simple = (name: string) => (): void => note(name);
  const indexed =
    (name: string) =>
    (index: number): void => {
      holds(index < pieces, 'a piece number lies in the torrent');
      note(name, index);
    };
  const blocked =
    (name: string) =>
    (index: number, begin: number, lengthBytes: number): void =>
      note(name, index, begin, lengthBytes);
  const visitor: WireVisitor = {
    keepAlive: simple('keepAlive'),
    choke: simple('choke'),
    unchoke: simple('unchoke'),
    interested: simple('interested'),
    notInterested: simple('notInterested'),
    haveAll: simple('haveAll'),
    haveNone: simple('haveNone'),
    have: indexed('have'),
    suggest: indexed('suggest'),
    allowedFast: indexed('allowedFast'),
    request: blocked('request'),
    cancel: blocked('cancel'),
    reject: blocked('reject'),
    ignored: (id, lengthBytes) => note('ignored', id, lengthBytes),
    bitfield: (bits) => {
      holds(bits.length === 2 && ((bits[1] ?? 0) & 7) === 0, 'a bitfield has the length of the torrent');
      note('bitfield', bits.toString('hex'));
    },
    extended: (id, payload) => {
      holds(payload.length < controlMessageMaxBytes, 'an extended message is bounded');
      note('extended', id, payload.toString('latin1'));
      // What the sides do with them, and what they throw leaves the decoder as it is.
      if (id === 0) parseExtendedHandshake(payload);
      else if (id === 1) parseMetadata(payload);
    },
    pieceStart: (index, begin, lengthBytes) => {
      holds(lengthBytes >= 1 && lengthBytes <= blockMaxBytes, 'a block is bounded');
      left = lengthBytes;
      note('pieceStart', index, begin, lengthBytes);
    },
    pieceData: (bytes) => {
      left -= bytes.length;
      holds(left >= 0 && bytes.length > 0, 'no more bytes than the block has');
      for (const byte of bytes) told = fold(told, byte);
    },
    pieceEnd: () => {
      holds(left === 0, 'a block ends when all of it was there');
      note('pieceEnd');
    },
  };
  const decoder = new WireDecoder(visitor, { pieces, blockMaxBytes });
  let error: unknown;
  try {
    for (const chunk of chunks) decoder.push(chunk);
  } catch (thrown) {
    if (!isNarswarmError(thrown, 'wire-violation')) throw thrown;
    error = `${thrown.message} ${thrown.offset}`;
  }
  const end = error === undefined ? `${decoder.idle} ${decoder.blockLeftBytes}` : '';
  return { told: `${events} ${told} ${end}`, error };
}

/** A number that depends on every number before it, and their order. */
function fold(before: number, next: number): number {
  return Math.imul(before ^ (next | 0), 0x01000193) ^ (before >>> 15);
}

function wireTarget(blockMaxBytes: number): Target {
  return {
    words: wireWords,
    make: (random) =>
      Buffer.concat(Array.from({ length: 1 + random.below(6) }, () => random.pick(messages)(random))),
    run: (input, random) => {
      const whole = toldBy(blockMaxBytes, [input]);
      const cut = toldBy(blockMaxBytes, random.chunks(input));
      holds(whole.error === cut.error, 'chunks do not change where a stream breaks off');
      holds(whole.told === cut.told, 'chunks do not change what a stream says');
      return whole.error === undefined ? 'accepted' : 'refused';
    },
  };
}

/** Hello of BEP 3, in any chunks. */
const handshake: Target = {
  words: ['\x13BitTorrent protocol', '\x14', 'BitTorrent', '\0\0\0\0\0\x10\0\x04', '\xff'],
  make: (random) =>
    Buffer.concat([
      encodeHandshake({
        infoHash: infoHashFromDigest(random.bytes(20)),
        peerId: random.bytes(20),
        fast: random.oneIn(2),
        extended: random.oneIn(2),
      }),
      random.bytes(random.below(8)),
    ]),
  run: (input, random) => {
    const whole = unlessRefused(violation, () => parseHandshake(input));
    const reader = new HandshakeReader();
    let consumed = 0;
    let read: ReturnType<HandshakeReader['push']>;
    const refused = unlessRefused(violation, () => {
      for (const chunk of random.chunks(input)) {
        read = reader.push(chunk);
        consumed += chunk.length;
        if (read !== undefined) break;
      }
      return true;
    });
    if (whole === undefined) {
      holds(read === undefined, 'a reader takes no more than the parser');
      return 'refused';
    }
    holds(refused === true && read !== undefined, 'a reader takes what the parser takes');
    holds(consumed - (read?.rest.length ?? 0) === 68, 'what follows is left alone');
    const again = parseHandshake(encodeHandshake(whole));
    holds(
      again.infoHash === whole.infoHash && again.peerId.equals(whole.peerId),
      'it is written as it was read',
    );
    return 'accepted';
  },
};

const extension: Target = {
  words: [
    ...bencodeWords,
    '1:m',
    '11:ut_metadata',
    '13:metadata_size',
    '8:msg_type',
    '5:piece',
    '10:total_size',
  ],
  make: extensionPayload,
  run: (input) => {
    const hello = unlessRefused(violation, () => parseExtendedHandshake(input));
    if (hello !== undefined) {
      for (const id of hello.extensions.values()) holds(id >= 1 && id <= 255, 'a number fits into a byte');
      holds((hello.client?.length ?? 0) <= 64, 'a name is short');
      const { metadataBytes, requestsQueuedMax = 1, uploadOnly } = hello;
      const again = parseExtendedHandshake(
        encodeExtendedHandshake({
          ...(metadataBytes === undefined ? {} : { metadataBytes }),
          requestsQueuedMax,
          uploadOnly,
        }),
      );
      holds(
        again.metadataBytes === metadataBytes && again.uploadOnly === uploadOnly,
        'it is written as it was read',
      );
    }
    const message = unlessRefused(violation, () => parseMetadata(input));
    if (message?.type === 'request' || message?.type === 'reject') {
      const again = parseMetadata(encodeMetadata(message.type, message.piece));
      holds(again?.type === message.type && again.piece === message.piece, 'it is written as it was read');
    }
    return hello === undefined && message === undefined ? 'refused' : 'accepted';
  },
};

const bencodeTarget: Target = {
  words: bencodeWords,
  make: (random) => bencode(randomBencode(random, ['a', 'b', 'key', '__proto__', '\xff'])),
  run: (input) => {
    const refusal = ['bencode-invalid'] as const;
    const value = unlessRefused(refusal, () => parseBencode(input));
    if (value !== undefined) holds(bencode(value).equals(input), 'what is parsed has one encoding');
    const loose = unlessRefused(refusal, () => parseBencodePrefix(input, { anyKeyOrder: true, depthMax: 4 }));
    if (loose !== undefined) {
      holds(loose.lengthBytes <= input.length, 'no value is longer than the input');
      const sorted: BencodeInput = loose.value;
      holds(
        bencode(parseBencode(bencode(sorted))).equals(bencode(sorted)),
        'in any order, it can be written',
      );
    }
    return verdict(value ?? loose);
  },
};

export function verdict(value: unknown): Verdict {
  return value === undefined ? 'refused' : 'accepted';
}

export const wireTargets = {
  'wire-seed': wireTarget(0),
  'wire-fetch': wireTarget(blockBytes),
  handshake,
  extension,
  bencode: bencodeTarget,
} satisfies Record<string, Target>;
