/**
 * Handshakes for torrents that nobody has, at a given rate, for a given time:
 *
 *   unknown-flood.ts PORT PER-SECOND SECONDS LOCAL-ADDRESS
 *
 * Prints what it did as JSON. At most 500 connections are under way at a time.
 */
import { connect } from 'node:net';
import { encodeHandshake, makePeerId } from '../../swarm/wire-handshake.ts';
import { unknownInfoHash } from './made-rows.ts';

const [port, perSecond, seconds, localAddress = '127.0.0.1'] = process.argv.slice(2);
const underWayMax = 500;
const peerId = makePeerId();
let sent = 0;
let closed = 0;
let failed = 0;
const started = performance.now();
const endMs = Number(seconds) * 1000;
await new Promise<void>((resolve) => {
  const tick = setInterval(() => {
    const nowMs = performance.now() - started;
    const due = Math.floor((nowMs / 1000) * Number(perSecond));
    while (nowMs < endMs && sent < due && sent - closed < underWayMax) one(sent++);
    if (nowMs < endMs || sent > closed) return;
    clearInterval(tick);
    resolve();
  }, 2);
});
console.log(JSON.stringify({ sent, failed, perSecond: sent / Number(seconds) }));

function one(number: number): void {
  const socket = connect({ host: '127.0.0.1', port: Number(port), localAddress, noDelay: true });
  const hello = encodeHandshake({ infoHash: unknownInfoHash(number), peerId });
  let answered = false;
  socket.on('connect', () => socket.write(hello));
  socket.on('data', () => {
    answered = true;
  });
  socket.on('error', () => {});
  socket.on('close', () => {
    closed++;
    if (answered) failed++;
  });
}
