/** bittorrent-dht itself, fed with what the guard lets through: it must survive all of it. */

import { EventEmitter } from 'node:events';
import { Client } from 'bittorrent-dht';
import fc from 'fast-check';
import t from 'tap';
import { parseDhtPacket, printDhtPacket } from '../../swarm/dht-packets.ts';
import { anyPacket, honestPacket } from './dht-arbitraries.ts';

const from = { address: '127.0.0.1', port: 2_000, family: 'IPv4', size: 1 };

/** Sends nothing anywhere; knows how often it should have. */
class DeafSocket extends EventEmitter {
  readonly asked: Buffer[] = [];
  answers = 0;

  bind(): void {}

  address() {
    return { address: '127.0.0.1', port: 1 };
  }

  send(bytes: Buffer): void {
    const packet = parseDhtPacket(bytes, true);
    if (typeof packet === 'string' || packet.kind !== 'query') this.answers++;
    else this.asked.push(packet.transaction);
  }

  close(): void {
    this.emit('close');
  }
}

t.test(
  'the library survives whatever passes the guard, as a query and as an answer to its own',
  async (t) => {
    const socket = new DeafSocket();
    const dht = new Client({
      ...{ nodeId: 'ab'.repeat(20), bootstrap: [{ host: from.address, port: from.port }], socket },
      ...{ maxTables: 10, maxPeers: 100, maxValues: 1, maxAge: 60_000 },
    });
    dht.on('warning', () => {});
    t.teardown(() => dht.destroy());
    let answered = 0;
    const packet = fc.oneof(
      anyPacket,
      honestPacket.map((honest) => printDhtPacket(honest)),
    );
    fc.assert(
      fc.property(packet, fc.nat(), (bytes, number) => {
        const parsed = parseDhtPacket(bytes, true);
        if (typeof parsed === 'string') return;
        if (socket.asked.length === 0)
          dht.lookup(number.toString(16).padStart(40, '0'), () => {
            dht.announce(number.toString(16).padStart(40, '0'), 6_881, () => {});
          });
        // An answer is one to the latest question, as the guard would have seen to.
        const asked = parsed.kind === 'query' ? undefined : socket.asked.pop();
        if (asked !== undefined) answered++;
        socket.emit('message', printDhtPacket(parsed, asked ?? parsed.transaction), from);
      }),
      { numRuns: 5_000 },
    );
    t.ok(answered > 100, `${answered} answers to its own questions`);
    t.ok(socket.answers > 100, `${socket.answers} answers of its own`);
  },
);
