/**
 * The process in which bittorrent-dht runs. It lives as long as its parent does, and dies of anything unexpected: the parent
 * starts it again.
 */

import { randomBytes } from 'node:crypto';
import { setDefaultResultOrder } from 'node:dns';
import { Client } from 'bittorrent-dht';
import KRpc from 'k-rpc';
import { infoHashFromDigest, parseInfoHash } from '../../nar/hash.ts';
import { verifyBytes } from '../../nar/signature.ts';
import { DhtGuard } from './dht-guard.ts';
import { dhtItemValue } from './dht-item.ts';
import { DhtLookups } from './dht-lookups.ts';
import {
  type DhtQuestion,
  type DhtReply,
  type FromChild,
  failureText,
  type StartMessage,
  type ToChild,
  toChild,
} from './dht-messages.ts';
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

function start(message: StartMessage): (message: Exclude<ToChild, StartMessage>) => void {
  const { limits, announce } = message;
  const guard = new DhtGuard({ limits, clock: () => performance.now(), random: randomBytes });
  const rpc = new KRpc({
    nodeId: message.nodeId,
    bootstrap: message.bootstrap.length > 0 ? message.bootstrap : false,
    socket: new DhtSocket(guard),
  });
  const dht = new Client({
    krpc: rpc,
    bootstrap: message.bootstrap.length > 0,
    host: announce.host,
    verify: (sig, signed, key) => verifyBytes(key, signed, sig),
    maxTables: limits.lookupsKept,
    maxPeers: limits.peersMax,
    maxValues: limits.itemsMax,
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

  const lookups = lookupsOf(rpc, dht, limits.lookupMs);
  const ready = new Promise<void>((resolve) => {
    if (dht.ready) resolve();
    else dht.once('ready', resolve);
    // As lookups, it has no end where nodes go on naming nearer ones.
    setTimeout(resolve, limits.lookupMs);
  });

  const doAnnounce = (infoHash: string): void => {
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

  return (told) => {
    if (told.type === 'announce') doAnnounce(told.infoHash);
    // Before it knows the nodes around itself it would find others than later.
    else
      ready
        .then(() => reply(lookups, told))
        .then(say)
        .catch(fail);
  };
}

async function reply(lookups: DhtLookups, question: DhtQuestion): Promise<DhtReply> {
  const { id } = question;
  if (question.type === 'find-peers') {
    const peers = await lookups.findPeers(parseInfoHash(question.infoHash));
    return { type: 'found-peers', id, peers };
  }
  const name = { key: Buffer.from(question.key, 'hex'), salt: Buffer.from(question.salt, 'hex') };
  if (question.type === 'get-item') {
    const item = await lookups.getItem(name);
    if (item === undefined) return { type: 'got-item', id };
    const { seq, infoHash, sig } = item;
    return { type: 'got-item', id, item: { seq, infoHash, sig: sig.toString('hex') } };
  }
  const { seq, infoHash, sig } = question;
  const item = { ...name, seq, infoHash: parseInfoHash(infoHash), sig: Buffer.from(sig, 'hex') };
  return { type: 'kept-item', id, nodes: await lookups.putItem(item) };
}

function lookupsOf(rpc: KRpc, dht: Client, lookupMs: number): DhtLookups {
  return new DhtLookups({
    rpc,
    lookupMs,
    items: {
      get(target) {
        const kept = dht._values.get(target.toString('hex'));
        if (kept === undefined) return undefined;
        const { k, salt = Buffer.alloc(0), seq, sig, v } = kept;
        return { key: k, salt, seq, sig, infoHash: infoHashFromDigest(v.ih) };
      },
      set(target, { key, salt, seq, sig, infoHash }) {
        const v = dhtItemValue(infoHash);
        dht._values.set(target.toString('hex'), { v, k: key, salt, seq, sig, id: rpc.id });
      },
    },
  });
}

// Named bootstrap nodes are of use with an IPv4 address alone.
setDefaultResultOrder('ipv4first');
// A terminal's Ctrl-C and a service manager's stop go to all processes; when this one ends is up to its parent.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
process.on('disconnect', () => process.exit(0));
process.on('uncaughtException', fail);

let tell: ReturnType<typeof start> | undefined;
process.on('message', (given) => {
  const message = toChild.parse(given);
  if (message.type === 'start') tell ??= start(message);
  else tell?.(message);
});
