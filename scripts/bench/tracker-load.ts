/**
 * Load for trackers: the same torrents announced by the same peers again and again, as in the middle of a day, a fixed number of
 * requests under way at a time, for a fixed time.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { InfoHash } from '../../nar/hash.ts';
import { infoHashToDigest } from '../../nar/hash.ts';
import { announcePacket, connectPacket } from '../../tests/swarm/udp-lab.ts';

export interface Load {
  port: number;
  infoHashes: readonly InfoHash[];
  /** Of each torrent. */
  peers: number;
  /** Called when the measured time begins and ends. */
  begins(): void;
  ends(): void;
}

const warmUpMs = 2_000;
const measuredMs = 4_000;
/** Announces under way. A packet that is lost is not asked for again, so that this is also the most that can be lost. */
const underWay = 64;
/** Connections at once over HTTP. */
const connections = 32;
const numWant = 30;
const host = '127.0.0.1';

/** Announces a second. */
type Result = Promise<number>;

/** Counts what is answered in the measured time. */
class Meter {
  readonly #load: Load;
  #count = 0;
  #startMs = 0;
  #endMs = 0;
  readonly done: Promise<void>;

  constructor(load: Load) {
    this.#load = load;
    this.done = this.#run();
  }

  answered(): void {
    if (this.#startMs > 0 && this.#endMs === 0) this.#count++;
  }

  get over(): boolean {
    return this.#endMs > 0;
  }

  perSecond(): number {
    return (this.#count / (this.#endMs - this.#startMs)) * 1_000;
  }

  async #run(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, warmUpMs));
    this.#startMs = performance.now();
    this.#load.begins();
    await new Promise((resolve) => setTimeout(resolve, measuredMs));
    this.#endMs = performance.now();
    this.#load.ends();
  }
}

export async function loadUdp(load: Load): Result {
  const socket = createSocket({ type: 'udp4', recvBufferSize: 1 << 20 });
  socket.connect(load.port, host);
  await once(socket, 'connect');
  const connected = once(socket, 'message') as Promise<[Buffer]>;
  socket.send(connectPacket());
  const [answer] = await connected;
  const digests = load.infoHashes.map(infoHashToDigest);
  const packet = announcePacket(answer.subarray(8), { event: 0, numWant });
  let sent = 0;
  const next = (): void => {
    const digest = digests[sent % digests.length];
    const peer = Math.floor(sent / digests.length) % load.peers;
    sent++;
    if (digest !== undefined) packet.set(digest, 16);
    packet.writeUInt32BE(peer, 36);
    packet.writeUInt16BE(10_000 + peer, 96);
    socket.send(packet);
  };
  const meter = new Meter(load);
  let failure: string | undefined;
  socket.on('message', (message) => {
    if (message.readUInt32BE(0) === 1) meter.answered();
    else failure = message.toString('latin1', 8);
    if (!meter.over) next();
  });
  for (let count = 0; count < underWay; count++) next();
  await meter.done;
  socket.close();
  if (failure !== undefined) throw new Error(`an announce was refused: ${failure}`);
  return meter.perSecond();
}

/** `kept`: all announces of a connection one after the other, or else a new connection for each, as BitTorrent programs do it. */
export async function loadHttp(load: Load, kept: boolean): Result {
  const queries = load.infoHashes.map((infoHash) => infoHash.replace(/../g, '%$&'));
  let sent = 0;
  const next = (): string => {
    const query = queries[sent % queries.length];
    const peer = Math.floor(sent / queries.length) % load.peers;
    sent++;
    const path = `/announce?info_hash=${query}&peer_id=${`${peer}`.padStart(20, '-')}&port=${10_000 + peer}`;
    const rest = `&uploaded=0&downloaded=0&left=1&compact=1&numwant=${numWant}`;
    return `GET ${path}${rest} HTTP/1.1\r\nHost: ${host}\r\n${kept ? '' : 'Connection: close\r\n'}\r\n`;
  };
  const meter = new Meter(load);
  const one = async (): Promise<void> => {
    while (!meter.over) {
      const socket = connect(load.port, host);
      let got = '';
      socket.setEncoding('latin1');
      socket.on('error', () => {});
      socket.on('data', (text: string) => {
        got += text;
        if (!isWhole(got)) return;
        if (!got.includes('8:interval')) throw new Error(`an announce was refused: ${got}`);
        got = '';
        meter.answered();
        if (kept && !meter.over) socket.write(next());
        else socket.destroy();
      });
      socket.write(next());
      await once(socket, 'close');
    }
  };
  await Promise.all(Array.from({ length: connections }, one));
  return meter.perSecond();
}

function isWhole(response: string): boolean {
  const end = response.indexOf('\r\n\r\n');
  const length = /\r\ncontent-length: (\d+)/i.exec(response)?.[1];
  return end >= 0 && length !== undefined && response.length >= end + 4 + Number(length);
}
