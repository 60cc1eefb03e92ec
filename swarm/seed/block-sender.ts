/**
 * Answers the requests of one peer: a bounded queue, one file read for requests that follow each other, blocks written without a copy.
 *
 * What is read and not yet taken by the kernel is bounded per peer, by a window that grows while the peer takes it quickly, and over
 * all peers, by a budget that shrinks every window to the smallest. So no peer ever waits for another one's memory.
 */
import type { Socket } from 'node:net';
import { NarswarmError } from '../../nar/errors.ts';
import type { UploadLane } from '../upload/upload-lane.ts';
import { foreignBlockMaxBytes, type SeedLimits } from '../wire/limits.ts';
import { aroundOf } from '../wire/memory.ts';
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
  /** Requests that were queued and will not be answered. */
  refused: (blocks: readonly BlockRequest[]) => void;
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

  /** The connection is gone. What is being read or written for it is held until that ends, or peers that come and leave would hold any amount. */
  stop(): void {
    this.#stopped = true;
    this.drain();
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
    this.#refuseLarge();
    const nextBytes = this.nextBytes;
    if (nextBytes === 0) return;
    if (this.#options.lane.paced) this.#options.lane.wait();
    else void this.#send(this.#takeBatch(Math.max(nextBytes, this.#roomBytes())));
  }

  /** It is the peer's turn: answers requests of `maxBytes` together, at least one. Returns what that takes. */
  grant(maxBytes: number): number {
    this.#refuseLarge();
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

  /**
   * One block of each peer is in memory at least, and is what passes at once where there is a rate. So the large ones of our own programs, which
   * ask for smaller ones then, are answered while there is room and no rate only.
   */
  #refuseLarge(): void {
    if (!this.#isTight && !this.#options.lane.paced) return;
    const isLarge = ({ lengthBytes }: BlockRequest): boolean => lengthBytes > foreignBlockMaxBytes;
    if (!this.#queue.some(isLarge)) return;
    const refused = this.#queue.filter(isLarge);
    this.#queue = this.#queue.filter((block) => !isLarge(block));
    for (const { lengthBytes } of refused) this.#queuedBytes -= lengthBytes;
    this.#options.refused(refused);
  }

  /** All peers together hold so much that each gets the smallest window. */
  get #isTight(): boolean {
    const { limits, budget } = this.#options;
    return budget.heldBytes > limits.sendBudgetBytes / 2;
  }

  #roomBytes(): number {
    return this.#allowedBytes() - this.#heldBytes;
  }

  #allowedBytes(): number {
    return this.#isTight ? this.#options.limits.sendWindowMinBytes : this.#windowBytes;
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
        this.#hold(-heldBytes);
        return;
      }
      if (data.length !== bytes)
        throw new NarswarmError('store-failed', `read ${data.length} of ${bytes} bytes`);
      this.#reading = false;
      this.#write(batch, data, isStartOf(memory, data), heldBytes, done);
    } catch (error) {
      this.#hold(-heldBytes);
      if (!this.#stopped) failed(error);
      return;
    }
    this.pump();
  }

  /** `roomBefore`: for a header. `done`: the kernel has what is in `data`, or will never have it. */
  #write(
    batch: readonly BlockRequest[],
    data: Buffer,
    roomBefore: boolean,
    heldBytes: number,
    done: () => void,
  ): void {
    const { socket, clock, sent } = this.#options;
    const startedMs = clock();
    const flushed = (error?: Error | null): void => {
      done();
      this.#hold(-heldBytes);
      if (this.#stopped) return;
      this.#windowBytes = this.#nextWindow(clock() - startedMs);
      if (error) return;
      sent(data.length);
      this.pump();
    };
    const parts = roomBefore ? withHeaderBefore(batch, data) : withHeaders(batch, data);
    if (parts.length > 1) socket.cork();
    for (const [i, part] of parts.entries()) {
      if (i === parts.length - 1) socket.write(part, flushed);
      else socket.write(part);
    }
    if (parts.length > 1) socket.uncork();
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

function isStartOf(memory: Buffer | undefined, data: Buffer): boolean {
  return memory?.buffer === data.buffer && memory.byteOffset === data.byteOffset;
}

/** Each block with its header in front. */
function withHeaders(batch: readonly BlockRequest[], data: Buffer): Buffer[] {
  const headers = Buffer.allocUnsafe(batch.length * pieceHeaderBytes);
  let at = 0;
  return batch.flatMap((block, i) => {
    const header = headers.subarray(i * pieceHeaderBytes, (i + 1) * pieceHeaderBytes);
    writePieceHeader(header, 0, block);
    const bytes = data.subarray(at, at + block.lengthBytes);
    at += block.lengthBytes;
    return [header, bytes];
  });
}

/** The same in memory from `takeMemory`: the first header goes there as well, so that a large block is one part. */
function withHeaderBefore(batch: readonly BlockRequest[], data: Buffer): Buffer[] {
  const [first, ...others] = batch;
  if (first === undefined) return [];
  const whole = aroundOf(data, -pieceHeaderBytes, first.lengthBytes);
  writePieceHeader(whole, 0, first);
  return [whole, ...withHeaders(others, data.subarray(first.lengthBytes))];
}
