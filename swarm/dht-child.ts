/**
 * The process in which bittorrent-dht runs. It lives as long as its parent does, and dies of anything unexpected: the parent
 * starts it again.
 */

import { randomBytes } from 'node:crypto';
import { setDefaultResultOrder } from 'node:dns';
import { Client } from 'bittorrent-dht';
import { DhtGuard } from './dht-guard.ts';
import { type FromChild, failureText, type StartMessage, toChild } from './dht-messages.ts';
import { DhtSocket } from './dht-socket.ts';

/** How long peers of other people's torrents are remembered: as long as libtorrent does. */
const peerAgeMs = 30 * 60_000;

function say(message: FromChild): void {
  // Nobody is left to hear it when the parent is gone; then this process is about to end.
  if (process.connected) process.send?.(message, undefined, undefined, () => {});
}

function fail(error: unknown): void {
  process.send?.(
    { type: 'failed', message: failureText(error) } satisfies FromChild,
    undefined,
    undefined,
    () => process.exit(1),
  );
  if (!process.connected) process.exit(1);
}

function start(message: StartMessage): (infoHash: string) => void {
  const { limits, announce } = message;
  const guard = new DhtGuard({ limits, clock: () => performance.now(), random: randomBytes });
  const dht = new Client({
    nodeId: message.nodeId,
    bootstrap: message.bootstrap.length > 0 ? message.bootstrap : false,
    host: announce.host,
    socket: new DhtSocket(guard),
    maxTables: limits.lookupsKept,
    maxPeers: limits.peersMax,
    // BEP 44 does not get past the guard.
    maxValues: 1,
    maxAge: peerAgeMs,
  });
  const status = (): void =>
    say({ type: 'status', nodes: dht.nodes.count(), received: guard.received, drops: { ...guard.drops } });
  dht.on('error', fail);
  // The library warns of what it survives; a socket that cannot be bound is no such thing.
  dht.on('warning', (error) => {
    if (!dht.listening) fail(error);
  });
  dht.on('listening', () => {
    const { address, port } = dht.address();
    say({ type: 'listening', host: address, port });
    setInterval(status, limits.heartbeatMs);
  });
  dht.listen(message.port, message.host);

  return (infoHash) => {
    const announced = (error: Error | null, nodes: number): void =>
      say({ type: 'announced', infoHash, nodes: error === null ? nodes : 0 });
    // The lookup is made here, and not left to `announce`, which has no end where nodes go on naming nearer ones.
    const stop = dht.lookup(infoHash, (error) => {
      clearTimeout(timer);
      if (error !== null) announced(error, 0);
      else dht.announce(infoHash, announce.port, announced);
    });
    const timer = setTimeout(stop, limits.lookupMs);
  };
}

// Named bootstrap nodes are of use with an IPv4 address alone.
setDefaultResultOrder('ipv4first');
// A terminal's Ctrl-C and a service manager's stop go to all processes; when this one ends is up to its parent.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
process.on('disconnect', () => process.exit(0));
process.on('uncaughtException', fail);

let announce: ((infoHash: string) => void) | undefined;
process.on('message', (given) => {
  const message = toChild.parse(given);
  if (message.type === 'start') announce ??= start(message);
  else announce?.(message.infoHash);
});
