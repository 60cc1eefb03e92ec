/** Ways in which a peer that is fetched from can try to do harm, each at a raw socket. */

import { pieceCount, type Torrent } from '../../swarm/torrent/torrent.ts';
import { blockBytes } from '../../swarm/wire/limits.ts';
import {
  type BlockRequest,
  encodeBitfield,
  encodeExtended,
  encodeIndexed,
  encodeKeepAlive,
  encodeRejects,
  encodeRequest,
  encodeSimple,
} from '../../swarm/wire/wire-encode.ts';
import { pieceMessage, type RawLine, type RawPeerOptions } from './raw-peer.ts';

export interface HostilePeer extends Omit<RawPeerOptions, 'torrent' | 'bytes' | 'fast'> {
  /** BEP 6, unless said otherwise. */
  fast?: boolean;
  /**
   * `left`: it is found out over one connection, and not tried again. `useless`: it gives nothing, and is waited for no longer than anybody who is
   * silent. `harmless`: what it says means nothing, and it gives what it was asked for.
   */
  ends: 'left' | 'useless' | 'harmless';
}

const kib = 1024;
const haveAll = encodeSimple('haveAll');
const choke = encodeSimple('choke');
const unchoke = encodeSimple('unchoke');
const first: BlockRequest = { index: 0, begin: 0, lengthBytes: blockBytes };
const times = (count: number, message: Buffer): Buffer =>
  Buffer.concat(new Array<Buffer>(count).fill(message));
const hello = (dictionary: string): Buffer => encodeExtended(0, Buffer.from(dictionary));
const gives = (block: BlockRequest, line: RawLine): void => line.say(line.block(block));
/** A message of an unknown kind. */
const unknown = (lengthBytes: number): Buffer => {
  const message = Buffer.alloc(4 + lengthBytes);
  message.writeUInt32BE(lengthBytes, 0);
  message[4] = 99;
  return message;
};

/** It lets us ask, and then pours this for as long as it is taken. */
function flood(message: Buffer): HostilePeer {
  const many = times(Math.max(1, Math.floor((64 * kib) / message.length)), message);
  return {
    ends: 'left',
    async greets(line) {
      line.say(haveAll, unchoke);
      await line.pour(many);
    },
  };
}

/** An extended handshake of which nothing is to be believed. */
function odd(dictionary: string): HostilePeer {
  return {
    ends: 'harmless',
    greets: (line) => line.say(haveAll, hello(dictionary), unchoke),
    asked: gives,
  };
}

/** It says one thing that nobody says. */
function wrong(...messages: Buffer[]): HostilePeer {
  return { ends: 'left', greets: (line) => line.say(haveAll, unchoke, ...messages) };
}

/** For a torrent of so many pieces that its bitfield has no spare bits. */
export function hostilePeers(torrent: Torrent): Record<string, HostilePeer> {
  const pieces = pieceCount(torrent);
  /** Chokes and unchokes again and again without taking a byte; so often for each block that it gives all the same. */
  const flaps = (count: number, fast: boolean): HostilePeer => ({
    ends: 'left',
    fast,
    async greets(line) {
      line.socket.pause();
      if (fast) line.say(haveAll);
      else line.say(encodeBitfield(Buffer.alloc(pieces / 8, 0xff)));
      for (let index = 0; index < pieces; index++) {
        for (let begin = 0; begin < torrent.pieceLength; begin += blockBytes) {
          await line.pour(Buffer.concat([times(count, Buffer.concat([unchoke, choke])), unchoke]), 1);
          await line.pour(line.block({ index, begin, lengthBytes: blockBytes }), 1);
        }
      }
    },
  });
  return {
    'a bitfield that is too long': {
      ends: 'left',
      greets: (line) => line.say(encodeBitfield(Buffer.alloc(pieces / 8 + 1, 0xff)), unchoke),
    },
    'a bitfield that is too short': {
      ends: 'left',
      greets: (line) => line.say(encodeBitfield(Buffer.alloc(pieces / 8 - 1, 0xff)), unchoke),
    },
    'a message that is declared with 4 GiB': wrong(Buffer.from([0xff, 0xff, 0xff, 0xff, 20])),
    'a block that is declared with 16 MiB': wrong(Buffer.from([1, 0, 0, 9, 7]), Buffer.alloc(8)),
    'an extended handshake that nests ten thousand deep': wrong(
      encodeExtended(0, Buffer.concat([Buffer.alloc(10_000, 'l'), Buffer.alloc(10_000, 'e')])),
    ),
    'a flood of the same have': flood(encodeIndexed('have', 1)),
    'a flood of keep-alives': flood(encodeKeepAlive()),
    'a flood of suggestions': flood(encodeIndexed('suggest', 1)),
    'a flood of allowed-fast': flood(encodeIndexed('allowedFast', 1)),
    'a flood of refusals of what was never asked for': flood(
      encodeRejects([{ ...first, index: pieces - 1, begin: 5 }]),
    ),
    'a flood of requests': flood(encodeRequest(first)),
    'a flood of changes of interest': flood(
      Buffer.concat([encodeSimple('interested'), encodeSimple('notInterested')]),
    ),
    'a flood of have-none': flood(encodeSimple('haveNone')),
    'a flood of deals': flood(encodeExtended(2, Buffer.from([1]))),
    'a flood of unknown messages, as long as they may be': flood(unknown(32 * kib)),
    'a flood of extended handshakes': flood(
      hello(
        `d1:md${Array.from({ length: 200 }, (_, id) => `3:${String(id).padStart(3, '0')}i${id + 1}e`).join('')}ee`,
      ),
    ),
    'peers by the ten thousand': flood(
      encodeExtended(1, Buffer.from(`d5:added30000:${'x'.repeat(30_000)}e`)),
    ),
    'a flood of blocks that nobody asked for': flood(
      pieceMessage({ ...first, begin: 5 }, Buffer.alloc(128 * kib)),
    ),
    'the same block, a thousand times': {
      ends: 'left',
      greets: (line) => line.say(haveAll, unchoke),
      asked(block, line) {
        if (line.asked === 1) void line.pour(line.block(block), 1_000);
      },
    },
    'a flood of refusals': {
      ends: 'left',
      greets: (line) => line.say(haveAll, unchoke),
      asked: (block, line) => line.say(times(100, encodeRejects([block]))),
    },
    'chokes by the thousand': flaps(1_400, false),
    'chokes by the thousand, with BEP 6': flaps(1_400, true),
    'a few chokes for each block, and reads nothing': flaps(45, false),
    'blocks that are a byte too short': {
      ends: 'useless',
      greets: (line) => line.say(haveAll, unchoke),
      asked: (block, line) => line.say(pieceMessage(block, Buffer.alloc(block.lengthBytes - 1))),
    },
    'blocks from a byte further on': {
      ends: 'useless',
      greets: (line) => line.say(haveAll, unchoke),
      asked: (block, line) =>
        line.say(pieceMessage({ ...block, begin: block.begin + 1 }, Buffer.alloc(block.lengthBytes))),
    },
    'the beginning of a block, and then a byte now and then': {
      ends: 'useless',
      greets: (line) => line.say(haveAll, unchoke),
      asked(block, line) {
        if (line.asked > 1) return;
        const message = line.block(block);
        let at = 1_000;
        line.say(message.subarray(0, at));
        const timer = setInterval(() => line.say(message.subarray(at, ++at)), 100);
        line.socket.on('close', () => clearInterval(timer));
      },
    },
    'leave to ask, and hangs up': {
      ends: 'left',
      greets: (line) => void line.socket.end(Buffer.concat([haveAll, unchoke])),
    },
    'that it lets nobody wait': odd('d4:reqqi0ee'),
    'that fewer than none may wait': odd('d4:reqqi-5ee'),
    'that two thousand million may wait': odd('d4:reqqi2147483648ee'),
    'metadata of a petabyte': odd('d13:metadata_sizei1125899906842624ee'),
    'blocks of no size': odd('d8:ns_blocki0ee'),
    'blocks of one byte': odd('d8:ns_blocki1ee'),
    'blocks of no power of two': odd('d8:ns_blocki100000ee'),
    'blocks of a gigabyte': odd('d8:ns_blocki1073741824ee'),
  };
}
