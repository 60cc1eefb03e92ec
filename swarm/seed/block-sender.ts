/**
 * Answers the requests of one peer: a bounded queue, one file read for requests that follow each other, blocks written without a copy.
 *
 * What is read and not yet taken by the kernel is bounded per peer, by a window that grows while the peer takes it quickly, and over
 * all peers, by a budget that shrinks every window to the smallest. So no peer ever waits for another one's memory.
 */
import type { Socket } from 'node:net';
import { NarswarmError } from '../../nar/errors.ts';
import type { UploadLane } from '../upload/upload-lane.ts';
import type { SeedLimits } from '../wire/limits.ts';
import type { BlockRequest } from '../wire/wire-encode.ts';
import { pieceHeaderBytes, writePieceHeader } from '../wire/wire-encode.ts';
import type { OpenTorrent } from './open-torrents.ts';
import type { ReadMemory } from './read-memory.ts';

/** What all senders have together. */
export interface SendBudget {
  /** Memory of what is read but not yet taken by the kernel. */
  heldBytes: number;
  readonly memory: ReadMemory;
}

export interface BlockSenderOptions {
  socket: Socket;
  torrent: OpenTorrent;
  limits: SeedLimits;
  budget: SendBudget;
  /** Says whether requests wait for their turn, and gives it. */
  lane: UploadLane;
  clock: () => number;
  /** The kernel took blocks with this many bytes. */
  sent: (bytes: number) => void;
  /** The file could not be read; nothing more is sent. */
  failed: (error: unknown) => void;
}

/** A send faster than this doubles the window, a slower one halves it. */
const quickSendMs = 1_000;

export class BlockSender {
  readonly #options: BlockSenderOptions;
  #queue: BlockRequest[] = [];
  #queuedBytes = 0;
  #heldBytes = 0;
  #windowBytes: number;
  #reading = false;
  /** When what is held now began to wait: for the disk or for the peer. */
  #busySinceMs = 0;
  #stopped = false;

  constructor(options: BlockSenderOptions) {
    this.#options = options;
    this.#windowBytes = options.limits.sendWindowMinBytes;
  }

  /** Nothing is queued, being read or waiting for the peer. */
  get idle(): boolean {
    return this.#queue.length === 0 && this.#heldBytes === 0;
  }

  /** Queues a request that was checked against the torrent; false when the queue is full. */
  request(block: BlockRequest): boolean {
    const { limits } = this.#options;
    if (this.#queue.length >= limits.requestsQueuedMax) return false;
    if (this.#queuedBytes + block.lengthBytes > limits.requestsQueuedMaxBytes) return false;
    this.#queue.push(block);
    this.#queuedBytes += block.lengthBytes;
    return true;
  }

  /** Takes a request out of the queue; false when it is not there, or being answered already. */
  cancel(block: BlockRequest): boolean {
    const at = this.#queue.findIndex(
      (queued) =>
        queued.begin === block.begin &&
        queued.index === block.index &&
        queued.lengthBytes === block.lengthBytes,
    );
    if (at < 0) return false;
    this.#queue.splice(at, 1);
    this.#queuedBytes -= block.lengthBytes;
    return true;
  }

  /** True when the peer, or the disk, has made no headway for too long. */
  isStuck(): boolean {
    return (
      this.#heldBytes > 0 && this.#options.clock() - this.#busySinceMs >= this.#options.limits.slowReaderMs
    );
  }

  /** Forgets the queue; what was read already is still written. */
  drain(): void {
    this.#queue = [];
    this.#queuedBytes = 0;
  }

  /** The connection is gone. */
  stop(): void {
    this.#stopped = true;
    this.drain();
    this.#options.budget.heldBytes -= this.#heldBytes;
    this.#heldBytes = 0;
  }

  /** Bytes of the requests that wait. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /** Bytes of the request that could be answered now; 0 when there is none, or no room for it. */
  get nextBytes(): number {
    const first = this.#queue[0];
    if (this.#stopped || this.#reading || first === undefined) return 0;
    // At least one block is under way at any time, however small the window.
    if (this.#heldBytes > 0 && this.#roomBytes() < first.lengthBytes) return 0;
    return first.lengthBytes;
  }

  /** Starts a read if the peer has room for one and may have it. To be called after requests were queued. */
  pump(): void {
    const nextBytes = this.nextBytes;
    if (nextBytes === 0) return;
    if (this.#options.lane.paced) this.#options.lane.wait();
    else void this.#send(this.#takeBatch(Math.max(nextBytes, this.#roomBytes())));
  }

  /** It is the peer's turn: answers requests of `maxBytes` together, at least one. Returns what that takes. */
  grant(maxBytes: number): number {
    const nextBytes = this.nextBytes;
    if (nextBytes === 0) return 0;
    const before = this.#queuedBytes;
    const batch = this.#takeBatch(Math.max(nextBytes, Math.min(maxBytes, this.#roomBytes())));
    void this.#send(batch);
    return before - this.#queuedBytes;
  }

  /** Takes all requests out of the queue, to be refused. */
  takeQueue(): BlockRequest[] {
    const queue = this.#queue;
    this.drain();
    return queue;
  }

  #roomBytes(): number {
    return this.#allowedBytes() - this.#heldBytes;
  }

  #allowedBytes(): number {
    const { limits, budget } = this.#options;
    return budget.heldBytes > limits.sendBudgetBytes / 2 ? limits.sendWindowMinBytes : this.#windowBytes;
  }

  /** The requests at the front that follow each other in the file, up to `maxBytes` and one read. */
  #takeBatch(maxBytes: number): BlockRequest[] {
    const limitBytes = Math.min(maxBytes, this.#options.limits.readMaxBytes);
    let count = 0;
    let bytes = 0;
    let end = -1;
    for (const block of this.#queue) {
      const position = this.#position(block);
      if (count > 0 && (position !== end || bytes + block.lengthBytes > limitBytes)) break;
      end = position + block.lengthBytes;
      bytes += block.lengthBytes;
      count++;
    }
    this.#queuedBytes -= bytes;
    return this.#queue.splice(0, count);
  }

  #position(block: BlockRequest): number {
    return block.index * this.#options.torrent.torrent.pieceLength + block.begin;
  }

  async #send(batch: readonly BlockRequest[]): Promise<void> {
    const { torrent, budget, failed } = this.#options;
    const [first] = batch;
    if (first === undefined) return;
    const bytes = batch.reduce((sum, block) => sum + block.lengthBytes, 0);
    const memory = budget.memory.take(bytes);
    const done = (): void => {
      if (memory !== undefined) budget.memory.give(memory);
    };
    const heldBytes = memory?.length ?? bytes;
    this.#reading = true;
    this.#hold(heldBytes);
    try {
      const data = await torrent.read(this.#position(first), bytes, memory);
      if (this.#stopped) {
        done();
        return;
      }
      if (data.length !== bytes)
        throw new NarswarmError('store-failed', `read ${data.length} of ${bytes} bytes`);
      this.#reading = false;
      this.#write(batch, data, heldBytes, done);
    } catch (error) {
      if (!this.#stopped) failed(error);
      return;
    }
    this.pump();
  }

  /** `done`: the kernel has what is in `data`, or will never have it. */
  #write(batch: readonly BlockRequest[], data: Buffer, heldBytes: number, done: () => void): void {
    const { socket, clock, sent } = this.#options;
    const startedMs = clock();
    const headers = Buffer.allocUnsafe(batch.length * pieceHeaderBytes);
    const flushed = (error?: Error | null): void => {
      done();
      if (this.#stopped) return;
      this.#hold(-heldBytes);
      this.#windowBytes = this.#nextWindow(clock() - startedMs);
      if (error) return;
      sent(data.length);
      this.pump();
    };
    socket.cork();
    let at = 0;
    batch.forEach((block, i) => {
      const header = headers.subarray(i * pieceHeaderBytes, (i + 1) * pieceHeaderBytes);
      writePieceHeader(header, 0, block);
      socket.write(header);
      const bytes = data.subarray(at, at + block.lengthBytes);
      at += block.lengthBytes;
      if (i === batch.length - 1) socket.write(bytes, flushed);
      else socket.write(bytes);
    });
    socket.uncork();
  }

  #nextWindow(tookMs: number): number {
    const { sendWindowMinBytes, sendWindowMaxBytes } = this.#options.limits;
    if (tookMs < quickSendMs) return Math.min(this.#windowBytes * 2, sendWindowMaxBytes);
    return Math.max(this.#windowBytes / 2, sendWindowMinBytes);
  }

  #hold(bytes: number): void {
    const { budget, clock } = this.#options;
    // Taking bytes from an empty window, and the peer accepting some, both count as headway.
    if (this.#heldBytes === 0 || bytes < 0) this.#busySinceMs = clock();
    this.#heldBytes += bytes;
    budget.heldBytes += bytes;
  }
}
