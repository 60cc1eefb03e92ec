/**
 * A node of the DHT (BEP 5): announces torrents that were asked for lately, within a budget; finds who has a torrent; keeps and finds
 * signed items (BEP 44) that say which torrent is the newest (BEP 46).
 *
 * The node is a child process, since the library that speaks the DHT can be ended by a packet. It is restarted when it dies, or
 * was silent for too long. Nothing here waits for it: what it is told goes into a pipe, a few messages at a time.
 */

import { type ChildProcess, fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { NarswarmError } from '../../nar/errors.ts';
import { type InfoHash, parseInfoHash } from '../../nar/hash.ts';
import { type PeerAddress, printPeer } from '../address/peer-address.ts';
import { DhtBudget } from './dht-budget.ts';
import { type DhtDrops, noDrops } from './dht-guard.ts';
import { type DhtItem, type DhtItemName, isDhtItemSigned } from './dht-item.ts';
import { type DhtLimits, dhtLimits } from './dht-limits.ts';
import { type DhtReply, type FromChild, fromChild, type ToChild } from './dht-messages.ts';
import { DhtRequests } from './dht-requests.ts';

/**
 * starting → running: it listens. starting, running → waiting: it died, or was killed for its silence. waiting → starting: the
 * back-off is over. Any → closed. `off` is the state of what was never opened.
 */
export type DhtState = 'off' | 'starting' | 'running' | 'waiting' | 'closed';

export interface DhtStatus {
  state: DhtState;
  /** `host:port` where it listens. */
  address?: string;
  /** In the routing table, at this moment. */
  nodes: number;
  /** Asked for lately, and so remembered. */
  torrents: number;
  /** Taken by at least one node. */
  announces: number;
  announceFailures: number;
  receivedPackets: number;
  droppedPackets: number;
  droppedByReason: DhtDrops;
  restarts: number;
}

export interface DhtEnded {
  /** What the child said before it died, if it could. */
  message: string | undefined;
  exitCode: number | null;
  signal: NodeJS.Signals | null;
  restartInMs: number;
}

export interface DhtOptions {
  /** IPv4 address or name to listen on, and a port: 0 for any free one. */
  host: string;
  port: number;
  /** Nodes by which the others are found. Without any, this node waits for others to come. */
  bootstrap: readonly PeerAddress[];
  /** Port of the BitTorrent listener; without one there is nothing to announce. */
  peersPort?: number;
  /** IPv4 address of the BitTorrent listener, if it is known; other nodes see it in our packets. */
  peersHost?: string;
  limits?: Partial<DhtLimits>;
  /** Milliseconds that never go back. */
  clock?: () => number;
  /** The child died, and will be started again. For the log. */
  onEnded?: (ended: DhtEnded) => void;
}

export interface Dht {
  readonly host: string;
  readonly port: number;
  /** Of the child, when there is one. */
  readonly pid: number | undefined;
  /** Somebody wants this torrent, which is served here. Cheap. */
  noteDemand(infoHash: InfoHash): void;
  /** Has a torrent announced whether it is asked for or not, until it is unpinned. For a handful of them. */
  pin(infoHash: InfoHash): void;
  unpin(infoHash: InfoHash): void;
  /** Who says that he has a torrent; at most 100. Throws dht-failed, aborted. */
  findPeers(infoHash: InfoHash, signal?: AbortSignal): Promise<PeerAddress[]>;
  /** The newest that the nodes next to it have, with a valid signature. Throws dht-failed, aborted. */
  getItem(name: DhtItemName, signal?: AbortSignal): Promise<DhtItem | undefined>;
  /**
   * Has an item kept by this node and those next to it, which forget it after two hours. Gives how many others have it. Throws
   * dht-failed, aborted.
   */
  putItem(item: DhtItem, signal?: AbortSignal): Promise<number>;
  status(): DhtStatus;
  /** Ends the child within a second. May be called twice. */
  close(): Promise<void>;
}

export const dhtOff: Readonly<DhtStatus> = {
  state: 'off',
  nodes: 0,
  torrents: 0,
  announces: 0,
  announceFailures: 0,
  receivedPackets: 0,
  droppedPackets: 0,
  droppedByReason: noDrops(),
  restarts: 0,
};

/** Resolves when the node listens. Throws `dht-failed` when it cannot. */
export async function openDht(options: DhtOptions): Promise<Dht> {
  const dht = new DhtParent(options);
  try {
    await dht.listening;
  } catch (error) {
    await dht.close();
    throw error;
  }
  return dht;
}

const childFile = fileURLToPath(new URL('./dht-child.ts', import.meta.url));

/** Megabytes of JavaScript objects in the child: it has some 10, and one that has 64 is better started anew. */
const childHeapMegabytes = 64;

class DhtParent implements Dht {
  host: string;
  port: number;
  /** Settled by the first child. */
  readonly listening: Promise<void>;
  readonly #options: DhtOptions;
  readonly #limits: DhtLimits;
  readonly #clock: () => number;
  readonly #budget: DhtBudget;
  readonly #nodeId = randomBytes(20).toString('hex');
  readonly #listening = Promise.withResolvers<void>();
  readonly #timer: NodeJS.Timeout;
  readonly #requests: DhtRequests;
  /** Announces that the present child has been told of. */
  readonly #underWay = new Set<InfoHash>();
  #state: DhtState = 'starting';
  #child: ChildProcess | undefined;
  #startedMs = 0;
  /** When the child was last heard. */
  #heardMs = 0;
  #restartMs = 0;
  #deaths = 0;
  #failure: string | undefined;
  #nodes = 0;
  #counters = { announces: 0, announceFailures: 0, restarts: 0 };
  /** Of the children before this one. */
  #before = { received: 0, drops: noDrops() };
  #present = { received: 0, drops: noDrops() };
  #closing: Promise<void> | undefined;

  constructor(options: DhtOptions) {
    this.#options = options;
    this.host = options.host;
    this.port = options.port;
    this.#limits = { ...dhtLimits, ...options.limits };
    this.#clock = options.clock ?? (() => performance.now());
    this.#budget = new DhtBudget(this.#limits);
    this.#requests = new DhtRequests(this.#limits, (question) => this.#tell(question));
    this.listening = this.#listening.promise;
    this.#start();
    this.#timer = setInterval(() => this.#tick(), this.#limits.tickMs);
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  noteDemand(infoHash: InfoHash): void {
    this.#budget.note(infoHash, this.#clock());
  }

  pin(infoHash: InfoHash): void {
    this.#budget.pin(infoHash);
  }

  unpin(infoHash: InfoHash): void {
    this.#budget.unpin(infoHash);
  }

  async findPeers(infoHash: InfoHash, signal?: AbortSignal): Promise<PeerAddress[]> {
    const reply = await this.#requests.ask({ type: 'find-peers', infoHash }, signal);
    return reply.type === 'found-peers' ? reply.peers : [];
  }

  async getItem(name: DhtItemName, signal?: AbortSignal): Promise<DhtItem | undefined> {
    const reply = await this.#requests.ask({ type: 'get-item', ...hexOf(name) }, signal);
    if (reply.type !== 'got-item' || reply.item === undefined) return undefined;
    const { seq, infoHash, sig } = reply.item;
    const item = { ...name, seq, infoHash: parseInfoHash(infoHash), sig: Buffer.from(sig, 'hex') };
    // The child is as good as the packets that it reads.
    return isDhtItemSigned(item) ? item : undefined;
  }

  async putItem(item: DhtItem, signal?: AbortSignal): Promise<number> {
    const { seq, infoHash, sig } = item;
    const question = { type: 'put-item', ...hexOf(item), seq, infoHash, sig: sig.toString('hex') } as const;
    const reply = await this.#requests.ask(question, signal);
    return reply.type === 'kept-item' ? reply.nodes : 0;
  }

  status(): DhtStatus {
    const droppedByReason = addDrops(this.#before.drops, this.#present.drops);
    return {
      state: this.#state,
      address: printPeer({ host: this.host, port: this.port }),
      nodes: this.#nodes,
      torrents: this.#budget.size,
      ...this.#counters,
      receivedPackets: this.#before.received + this.#present.received,
      droppedPackets: Object.values(droppedByReason).reduce((sum, count) => sum + count, 0),
      droppedByReason,
    };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    clearInterval(this.#timer);
    this.#state = 'closed';
    this.#requests.close();
    const child = this.#child;
    if (child === undefined) return;
    const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    if (child.connected) child.disconnect();
    const deadline = setTimeout(() => child.kill('SIGKILL'), this.#limits.closeMs);
    await gone;
    clearTimeout(deadline);
  }

  #start(): void {
    this.#state = 'starting';
    this.#startedMs = this.#clock();
    this.#heardMs = this.#startedMs;
    this.#failure = undefined;
    const child = fork(childFile, [], {
      // Nothing of ours: no secrets, no proxies, no options for Node.
      env: {},
      execArgv: [`--max-old-space-size=${childHeapMegabytes}`],
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    this.#child = child;
    child.on('message', (message) => this.#hear(child, message));
    child.once('exit', (exitCode, signal) => this.#ended(child, exitCode, signal));
    // It could not be started or told something, which its end or its silence shows.
    child.on('error', (error) => {
      this.#failure ??= error.message;
      if (child.pid === undefined) this.#ended(child, null, null);
    });
    const { bootstrap, peersPort = 0, peersHost } = this.#options;
    this.#tell({
      type: 'start',
      host: this.host,
      // Chosen by the system the first time, and kept: other nodes know this one by it.
      port: this.port,
      nodeId: this.#nodeId,
      bootstrap: bootstrap.map(({ host, port }) => ({ host, port })),
      announce: { port: peersPort, ...(peersHost === undefined ? {} : { host: peersHost }) },
      limits: this.#limits,
    });
  }

  #tell(message: ToChild): void {
    // A child that is gone is no news: its end is heard of in the usual way.
    this.#child?.send(message, () => {});
  }

  #hear(child: ChildProcess, given: unknown): void {
    if (child !== this.#child) return;
    this.#heardMs = this.#clock();
    const parsed = fromChild.safeParse(given);
    if (parsed.success) {
      this.#take(parsed.data);
      return;
    }
    this.#failure ??= 'it said something that is no message';
    child.kill('SIGKILL');
  }

  #take(message: FromChild): void {
    if (message.type === 'listening') {
      this.host = message.host;
      this.port = message.port;
      if (this.#state === 'starting') this.#state = 'running';
      this.#requests.start();
      this.#listening.resolve();
    } else if (message.type === 'status') {
      this.#nodes = message.nodes;
      this.#present = { received: message.received, drops: { ...noDrops(), ...message.drops } };
    } else if (message.type === 'announced') {
      this.#announced(parseInfoHash(message.infoHash), message.nodes > 0);
    } else if (message.type === 'failed') {
      this.#failure = message.message;
    } else {
      this.#requests.answered(message satisfies DhtReply);
    }
  }

  #announced(infoHash: InfoHash, taken: boolean): void {
    if (!this.#underWay.delete(infoHash)) return;
    if (taken) {
      this.#counters.announces++;
      return;
    }
    this.#counters.announceFailures++;
    this.#budget.failed(infoHash, this.#clock());
  }

  #ended(child: ChildProcess, exitCode: number | null, signal: NodeJS.Signals | null): void {
    if (child !== this.#child) return;
    const nowMs = this.#clock();
    this.#child = undefined;
    this.#nodes = 0;
    this.#before = {
      received: this.#before.received + this.#present.received,
      drops: addDrops(this.#before.drops, this.#present.drops),
    };
    this.#present = { received: 0, drops: noDrops() };
    for (const infoHash of this.#underWay) this.#announced(infoHash, false);
    this.#requests.stop();
    const why = this.#failure ?? `ended with ${signal ?? exitCode}`;
    this.#listening.reject(new NarswarmError('dht-failed', `the DHT node does not start: ${why}`));
    if (this.#state === 'closed') return;
    this.#state = 'waiting';
    if (nowMs - this.#startedMs >= this.#limits.stableMs) this.#deaths = 0;
    const restartInMs = Math.min(this.#limits.restartMinMs * 2 ** this.#deaths++, this.#limits.restartMaxMs);
    this.#restartMs = nowMs + restartInMs;
    this.#options.onEnded?.({ message: this.#failure, exitCode, signal, restartInMs });
  }

  #tick(): void {
    const nowMs = this.#clock();
    if (this.#state === 'waiting') {
      if (nowMs < this.#restartMs) return;
      this.#counters.restarts++;
      this.#start();
    } else if (nowMs - this.#heardMs >= this.#limits.hangMs) {
      this.#failure ??= 'it hung';
      this.#child?.kill('SIGKILL');
    } else if (this.#state === 'running') {
      this.#announceDue(nowMs);
    }
  }

  #announceDue(nowMs: number): void {
    while (this.#underWay.size < this.#limits.announcesUnderWayMax) {
      const infoHash = this.#budget.next(nowMs);
      if (infoHash === undefined) return;
      this.#underWay.add(infoHash);
      this.#tell({ type: 'announce', infoHash });
    }
  }
}

function hexOf({ key, salt }: DhtItemName): { key: string; salt: string } {
  return { key: key.toString('hex'), salt: salt.toString('hex') };
}

function addDrops(a: DhtDrops, b: DhtDrops): DhtDrops {
  const sum = noDrops();
  for (const reason of Object.keys(sum) as (keyof DhtDrops)[]) sum[reason] = a[reason] + b[reason];
  return sum;
}
