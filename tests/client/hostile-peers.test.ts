/** A client among hostile peers: those that it fetches from, and those that ask it for what it fetches. HTTP gives what they do not. */

import { connect } from 'node:net';
import t from 'tap';
import { encodeRequest, encodeSimple } from '../../swarm/wire/wire-encode.ts';
import { encodeHandshake, makePeerId } from '../../swarm/wire/wire-handshake.ts';
import { makeLogger } from '../../web/log.ts';
import { hostilePeers } from '../helpers/hostile-peers.ts';
import { RawPeer } from '../helpers/raw-peer.ts';
import { fetchKnownNar, fetchNar, Lab, statusOf, until } from './lab.ts';
import { madeNar } from './made-nar.ts';

// 64 pieces of 64 KiB: the bitfields of hostile peers have no spare bits.
const [first, second] = ['first', 'second'].map((name) =>
  madeNar({ name, sizeBytes: 4 * 1024 * 1024 - 200, compression: 'none' }),
) as [ReturnType<typeof madeNar>, ReturnType<typeof madeNar>];

/** Of the whole file from HTTP, on the busiest of machines, with the bounds of a silent swarm before it. */
const tookMaxMs = 15_000;
/** Lines of the log: one for each peer that is banned, and a few about the file. */
const linesMax = 80;

t.test('a crowd of hostile peers costs a NAR file neither its bytes nor its time', async (t) => {
  const lab = await Lab.open(t);
  const catalog = await lab.catalog([first, second]);
  const upstream = await lab.upstream([first, second]);
  const crowds = await Promise.all(
    [first, second].map((nar) =>
      Promise.all(
        Object.values(hostilePeers(nar.torrent))
          .filter(({ ends }) => ends !== 'harmless')
          .map(({ fast = true, ...peer }) => RawPeer.open(t, { ...nar, fast, ...peer })),
      ),
    ),
  );
  const [those = [], others = []] = crowds;
  const lines: string[] = [];
  const client = await lab.client([upstream], [catalog], {
    share: 'on',
    logger: makeLogger({ write: (line) => lines.push(line), human: false }),
  });
  const [host = '', port] = (client.peersAddress ?? '').split(':');
  // Who asks it for all it fetches, whether it lets them or not.
  const askers = Array.from({ length: 20 }, () => {
    const socket = connect({ host, port: Number(port) });
    socket.on('error', () => {});
    const ask = (): void => {
      const { infoHash } = first.torrent;
      socket.write(
        Buffer.concat([encodeHandshake({ infoHash, peerId: makePeerId() }), encodeSimple('interested')]),
      );
      for (let index = 0; index < 64; index++)
        socket.write(encodeRequest({ index, begin: 0, lengthBytes: 16_384 }));
    };
    socket.on('connect', ask);
    socket.resume();
    return socket;
  });

  catalog.peers = those.map(({ key }) => key);
  const answer = await fetchKnownNar(client, first);
  t.ok(answer.complete && answer.body.equals(first.bytes), 'the bytes are right');
  t.ok(answer.ms < tookMaxMs, `${answer.ms} ms`);
  await until(() => statusOf(client).transfers.running.length === 0);
  for (const socket of askers) socket.destroy();

  catalog.peers = others.map(({ key }) => key);
  const again = await fetchNar(client, second);
  t.ok(again.complete && again.body.equals(second.bytes));
  await until(() => statusOf(client).transfers.running.length === 0);
  t.match(statusOf(client), { failed: 0, wrong: 0 });
  const banned = lines.filter((line) => line.includes('"peer-banned"'));
  t.ok(banned.length > 0, 'whoever was asked and said what nobody says is banned');
  t.ok(lines.length < linesMax, `${lines.length} lines`);
  for (const { connections } of [...those, ...others]) t.ok(connections <= 10, `${connections} connections`);
});
