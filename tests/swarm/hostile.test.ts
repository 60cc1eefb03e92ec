/**
 * Attacks on a seed server in a process of its own, over real sockets. After each one everything is as before: an honest peer gets its
 * file as fast, the memory is back, no socket is left, and what happened was counted.
 */

import type { Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import { parseInfoHash } from '../../nar/hash.ts';
import { Random } from '../../scripts/fuzz/random.ts';
import { inputOf } from '../../scripts/fuzz/run.ts';
import { targets } from '../../scripts/fuzz/targets.ts';
import type { CloseReason } from '../../swarm/seed/seed-connection.ts';
import type { SeedStatus } from '../../swarm/seed/seed-server.ts';
import { encodeMetadata } from '../../swarm/torrent/metadata.ts';
import {
  encodeBitfield,
  encodeCancels,
  encodeExtended,
  encodeIndexed,
  encodeKeepAlive,
  encodeRequest,
  encodeRequests,
  encodeSimple,
} from '../../swarm/wire/wire-encode.ts';
import { encodeHandshake, makePeerId } from '../../swarm/wire/wire-handshake.ts';
import { gone, HostileLab, pour } from './hostile-lab.ts';
import { blocksOf } from './seed-fixture.ts';

/** Deadlines that a test can wait for; all else is as in the product. */
const limits = {
  handshakeDeadlineMs: 1_000,
  slowReaderMs: 1_500,
  idleMs: 1_000,
  lingerMs: 300,
  sweepMs: 20,
  // All attacks come from one address: it shall not be turned away for one of them before it gets to the next one.
  unknownPerMinuteMax: 3_000,
};

/** What the server may keep: caches of Node's that are filled once, and never grow with the number of attackers. */
const heapKeptMaxBytes = 6 * 1024 * 1024;
const bufferKeptMaxBytes = 4 * 1024 * 1024;
const residentKeptMaxBytes = 160 * 1024 * 1024;
/** How much longer the honest peer's download may take than before. A busy machine needs room; a server that is still busy takes seconds. */
const slowerMax = 5;
const slowerMaxMs = 1_000;

interface Attack {
  /** Resolves when the attackers have done what they could. Those that it returns are then closed, from their side. */
  attack(lab: HostileLab, before: SeedStatus): Promise<Socket[]>;
  /** Whether the counters tell that it happened. */
  counted(more: Counts): boolean;
}

/** What came on top of the counters. */
interface Counts {
  closed: Record<CloseReason, number>;
  refused: number;
  rejected: number;
}

const kib = 1024;
const block = { index: 0, begin: 0, lengthBytes: 16 * kib };
const interested = encodeSimple('interested');
const times = (count: number, message: Buffer): Buffer =>
  Buffer.concat(new Array<Buffer>(count).fill(message));
const extendedHello = encodeExtended(0, Buffer.from('d1:md11:ut_metadatai3eee'));

/** Every connection says the same and is sent away for it. */
function violating(connections: number, ...messages: Buffer[]): Attack {
  return {
    attack: async (lab) => {
      const sockets = Array.from({ length: connections }, () => lab.greeted(...messages));
      await gone(sockets);
      return [];
    },
    counted: ({ closed }) => closed.violation === connections,
  };
}

const attacks: Record<string, Attack> = {
  'a message that is declared with 4 GiB': violating(
    50,
    Buffer.from([0xff, 0xff, 0xff, 0xff, 20]),
    Buffer.alloc(10 * kib),
  ),
  'a message that is declared with 1 MiB, of a known kind': violating(
    50,
    Buffer.from([0, 0x10, 0, 0, 20, 1]),
    Buffer.alloc(64 * kib),
  ),
  'blocks, which nobody asked for': violating(
    50,
    Buffer.from([0, 0, 0x40, 9, 7, 0, 0, 0, 0, 0, 0, 0, 0]),
    Buffer.alloc(16 * kib),
  ),
  'requests for no bytes': violating(20, interested, encodeRequest({ ...block, lengthBytes: 0 })),
  'requests beyond the end': violating(20, interested, encodeRequest({ ...block, index: 0xffff_ffff })),
  'requests for a gigabyte': violating(20, interested, encodeRequest({ ...block, lengthBytes: 1 << 30 })),
  'a bitfield of another length': violating(20, encodeBitfield(Buffer.alloc(3))),
  'a have beyond the end': violating(20, encodeIndexed('have', 0xffff_ffff)),
  'an extended handshake that nests ten thousand deep': violating(
    20,
    encodeExtended(0, Buffer.concat([Buffer.alloc(10_000, 'l'), Buffer.alloc(10_000, 'e')])),
  ),
  'an extended handshake of sixteen thousand lists': violating(
    20,
    encodeExtended(0, Buffer.from(`d1:ml${'le'.repeat(16_000)}ee`)),
  ),
  'an extended handshake with a string that is not there': violating(
    20,
    encodeExtended(0, Buffer.from('d1:v999999999:')),
  ),
  'a flood of extended handshakes': violating(5, times(3_100, extendedHello)),
  'a metadata message that is no bencode': violating(20, encodeExtended(1, Buffer.alloc(30 * kib, 'i'))),
  'metadata with a negative piece': violating(
    20,
    encodeExtended(1, Buffer.from('d8:msg_typei0e5:piecei-1ee')),
  ),
  'a flood of requests for metadata, with huge piece numbers': violating(
    5,
    extendedHello,
    times(3_100, encodeExtended(1, encodeMetadata('request', Number.MAX_SAFE_INTEGER))),
  ),
  'a flood of requests for metadata before the extended handshake': violating(
    5,
    times(3_100, encodeExtended(1, encodeMetadata('request', 0))),
  ),
  'a flood of requests for metadata that is there': violating(
    5,
    extendedHello,
    times(4_000, encodeExtended(1, encodeMetadata('request', 0))),
  ),
  'a flood of cancels': violating(5, times(3_100, encodeCancels([block]))),
  'a flood of keepalives': violating(5, times(3_100, encodeKeepAlive())),
  'a flood of the same have': violating(5, times(3_200, encodeIndexed('have', 1))),
  'a flood of allowed-fast and suggest': violating(
    5,
    times(1_600, Buffer.concat([encodeIndexed('allowedFast', 1), encodeIndexed('suggest', 1)])),
  ),
  'a flood of changes of interest': violating(
    5,
    times(3_100, Buffer.concat([interested, encodeSimple('notInterested')])),
  ),
  'a flood of unknown messages': violating(5, times(3_100, Buffer.from([0, 0, 0, 2, 99, 0]))),
  'a handshake with rubbish behind it': violating(50, Buffer.alloc(100 * kib, 0x55)),

  'a bitfield with spare bits, and one that comes twice': {
    attack: async (lab) => {
      const pieces = lab.torrent.pieces.length / 20;
      // 64 pieces of 64 KiB leave no spare bit, so that all bits mean a seed; half of them, again and again, is a flood.
      const half = encodeBitfield(Buffer.alloc(pieces / 8, 0xf0));
      await gone([
        lab.greeted(times(3_100, half)),
        lab.greeted(encodeBitfield(Buffer.alloc(pieces / 8 + 1, 0xff))),
      ]);
      return [];
    },
    counted: ({ closed }) => closed.violation === 2,
  },
  'a flood of requests that nobody let it make': {
    attack: async (lab) => {
      await gone(Array.from({ length: 5 }, () => lab.greeted(times(3_100, encodeRequest(block)))));
      return [];
    },
    counted: ({ closed, rejected }) => closed.violation === 5 && rejected >= 5 * 2_900,
  },
  'a flood of requests, the same one half a million times': {
    attack: async (lab) => {
      const socket = lab.greeted(interested);
      await pour(socket, times(5_000, encodeRequest(block)), 100);
      await gone([socket]);
      return [];
    },
    counted: ({ closed, rejected }) => closed.violation + closed['slow-reader'] === 1 && rejected > 0,
  },
  'peers that ask for much and read nothing': {
    attack: async (lab, before) => {
      const wanted = times(6, encodeRequests(blocksOf(lab.torrent)));
      const sockets = Array.from({ length: 40 }, () => lab.greeted(interested, wanted));
      for (const socket of sockets) socket.pause();
      await lab.stateWhere(({ status }) => difference(status, before).closed['slow-reader'] === 40);
      return sockets;
    },
    counted: ({ closed }) => closed['slow-reader'] === 40,
  },
  'peers that read a little now and then': {
    attack: async (lab, before) => {
      const wanted = times(6, encodeRequests(blocksOf(lab.torrent)));
      const sockets = Array.from({ length: 20 }, () => lab.greeted(interested, wanted));
      for (const socket of sockets) socket.pause();
      const timer = setInterval(() => {
        for (const socket of sockets) socket.read(100);
      }, 20);
      await lab.stateWhere(({ status }) => difference(status, before).closed['slow-reader'] === 20);
      clearInterval(timer);
      return sockets;
    },
    counted: ({ closed }) => closed['slow-reader'] === 20,
  },
  'handshakes that never end, a byte at a time': {
    attack: async (lab) => {
      const handshake = encodeHandshake({ infoHash: lab.torrent.infoHash, peerId: makePeerId() });
      const sockets = Array.from({ length: 200 }, () => lab.attacker());
      let at = 0;
      const timer = setInterval(() => {
        for (const socket of sockets)
          if (!socket.destroyed) socket.write(handshake.subarray(at % 60, (at % 60) + 1));
        at++;
      }, 20);
      await gone(sockets);
      clearInterval(timer);
      return [];
    },
    counted: ({ closed }) => closed['handshake-deadline'] >= 190,
  },
  'connections on which nothing is ever said': {
    attack: async (lab) => {
      await gone(Array.from({ length: 200 }, () => lab.attacker()));
      return [];
    },
    counted: ({ closed }) => closed['handshake-deadline'] === 200,
  },
  'peers that shake hands and then say nothing': {
    attack: async (lab) => {
      await gone(Array.from({ length: 200 }, () => lab.greeted()));
      return [];
    },
    counted: ({ closed }) => closed.idle === 200,
  },
  'messages that never end': {
    attack: async (lab) => {
      // An unknown message with 32 KiB, of which a byte comes now and then.
      const sockets = Array.from({ length: 50 }, () => lab.greeted(Buffer.from([0, 0, 0x7f, 0xff, 99])));
      const timer = setInterval(() => {
        for (const socket of sockets) if (!socket.destroyed) socket.write('x');
      }, 20);
      await gone(sockets);
      clearInterval(timer);
      return [];
    },
    counted: ({ closed }) => closed.idle === 50,
  },
  'connections that are closed on one side': {
    attack: async (lab) => {
      const sockets = Array.from({ length: 200 }, (_, index) => {
        const socket = index % 2 === 0 ? lab.attacker() : lab.greeted(interested);
        socket.allowHalfOpen = true;
        socket.end();
        return socket;
      });
      await gone(sockets);
      return [];
    },
    counted: ({ closed }) => closed['peer-left'] + closed['handshake-deadline'] + closed.idle >= 200,
  },
  'three thousand connections from one address': {
    attack: async (lab) => {
      const sockets: Socket[] = [];
      for (let i = 0; i < 3_000; i++) {
        sockets.push(lab.attacker());
        if (i % 100 === 0) await setImmediate();
      }
      await gone(sockets);
      return [];
    },
    // Those that were let in say nothing, and make room for others at their deadline.
    counted: ({ refused, closed }) => refused > 500 && refused + closed['handshake-deadline'] === 3_000,
  },
  'two thousand connections that are reset at once': {
    attack: async (lab) => {
      for (let round = 0; round < 20; round++) {
        const sockets = Array.from({ length: 100 }, () => lab.greeted(interested, encodeRequest(block)));
        await Promise.all(
          sockets.map(
            (socket) =>
              new Promise<void>((resolve) => {
                socket.once('close', () => resolve());
                socket.once('connect', () => socket.resetAndDestroy());
              }),
          ),
        );
      }
      return [];
    },
    counted: ({ closed }) => closed['peer-left'] > 0,
  },
  'two thousand handshakes for torrents that are not there': {
    attack: async (lab) => {
      for (let round = 0; round < 20; round++) {
        const sockets = Array.from({ length: 100 }, (_, index) => {
          const socket = lab.attacker();
          const infoHash = parseInfoHash((round * 100 + index).toString(16).padStart(40, 'a'));
          socket.write(encodeHandshake({ infoHash, peerId: makePeerId() }));
          return socket;
        });
        await gone(sockets);
      }
      return [];
    },
    // When they come too quickly, some are turned away before they are heard.
    counted: ({ closed, refused }) => closed['unknown-infohash'] + refused === 2_000,
  },
  'five hundred streams of spoilt messages': {
    attack: async (lab) => {
      const target = targets['wire-seed'];
      if (target === undefined) throw new Error('no such target');
      for (let round = 0; round < 5; round++) {
        const sockets = Array.from({ length: 100 }, (_, index) => {
          const { input } = inputOf(target, 7, round * 100 + index);
          const socket = lab.greeted();
          for (const chunk of new Random(round, index, 0).chunks(input)) socket.write(chunk);
          socket.end();
          return socket;
        });
        await gone(sockets);
      }
      return [];
    },
    counted: ({ closed }) => closed.violation > 100 && closed.fault === 0,
  },
};

function difference(after: SeedStatus, before: SeedStatus): Counts {
  const closed = { ...after.closed };
  for (const reason of Object.keys(closed) as CloseReason[]) closed[reason] -= before.closed[reason];
  return {
    closed,
    refused: after.refusedConnections - before.refusedConnections,
    rejected: after.requestsRejected - before.requestsRejected,
  };
}

t.test('attacks, one after the other on one server', async (t) => {
  const lab = await HostileLab.open(t, limits);
  for (let round = 0; round < 3; round++) await lab.honestMs();
  const usualMs = Math.min(await lab.honestMs(), await lab.honestMs(), await lab.honestMs());
  const first = await lab.stateWhere(({ status }) => status.connections === 0);

  for (const [what, { attack, counted }] of Object.entries(attacks)) {
    await t.test(what, async (t) => {
      const before = await lab.state();
      // Honest peers are served while it lasts, from another address.
      const [sockets, duringMs] = await Promise.all([attack(lab, before.status), lab.honestMs()]);
      for (const socket of sockets) socket.destroy();
      // What is collected is given back a little later.
      const after = await lab.stateWhere(
        ({ status, bufferBytes, heapBytes, handles }) =>
          status.connections === 0 &&
          // No socket, file or timer is left.
          handles <= first.handles &&
          status.unsentBytes === 0 &&
          heapBytes - first.heapBytes <= heapKeptMaxBytes &&
          bufferBytes - first.bufferBytes <= bufferKeptMaxBytes,
      );
      const more = difference(after.status, before.status);
      t.ok(counted(more), `counted: ${JSON.stringify(more)}`);
      t.same(after.faults, []);
      const resident = after.residentBytes - first.residentBytes;
      t.ok(resident <= residentKeptMaxBytes, `${resident} bytes resident more`);
      const afterMs = await lab.honestMs();
      t.comment(
        `honest: ${duringMs.toFixed(0)} ms during, ${afterMs.toFixed(0)} after, ${usualMs.toFixed(0)} before`,
      );
      t.ok(afterMs <= usualMs * slowerMax + slowerMaxMs, `${afterMs} ms`);
      await lab.stateWhere(({ status }) => status.connections === 0);
    });
  }
});
