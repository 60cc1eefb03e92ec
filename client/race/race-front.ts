/**
 * Where the legs of a race meet: what they give is checked, put in order and let through. Bytes that another leg gave before are dropped,
 * those ahead of the front wait with their leg.
 */

import { NarswarmError } from '../../nar/errors.ts';
import type { Torrent } from '../../swarm/torrent/torrent.ts';
import { byteChecker, wholeMaxBytes } from './byte-checker.ts';
import type { RaceOptions } from './nar-plan.ts';
import { type Leg, waitingMaxBytes } from './race-leg.ts';
import { UncheckedStart } from './unchecked-start.ts';

export interface RaceFrontOptions
  extends Pick<RaceOptions, 'assembly' | 'fileHash' | 'logger' | 'onSize' | 'onUsed' | 'onProgress'> {
  torrent: Torrent | undefined;
  sizeBytes: number | undefined;
  /** Those that run. */
  legs(): readonly Leg[];
  /** As far as there are bytes for it. */
  onMoved(): void;
  /** Another leg gives now. */
  onLead(): void;
  /** The file is complete, by this leg. */
  onComplete(leg: Leg): void;
  /** It cannot go on: the whole is wrong, or the disk is in the way. */
  onFailed(error: unknown): void;
}

export class RaceFront {
  /** Everybody who gave bytes. */
  readonly gave = new Set<string>();
  /** Those of whose bytes nothing was known when they were taken. */
  readonly unsure = new Set<string>();
  readonly #options: RaceFrontOptions;
  #torrent: Torrent | undefined;
  #sizeBytes: number | undefined;
  #advancing = false;
  #inDoubt = false;
  #closed = false;
  #startIsWrong = false;
  #holding: NodeJS.Timeout | undefined;
  /** What was taken before there was a torrent, until it is known to be right. */
  #unchecked: UncheckedStart | undefined;

  constructor(options: RaceFrontOptions) {
    this.#options = options;
    this.#torrent = options.torrent;
    this.#sizeBytes = options.sizeBytes;
  }

  /** The first byte that nobody has given yet. */
  get byte(): number {
    return this.#options.assembly.appended;
  }

  /** It is being moved: a leg may look as if it were ahead of it. */
  get advancing(): boolean {
    return this.#advancing;
  }

  get sizeBytes(): number | undefined {
    return this.#sizeBytes;
  }

  get torrent(): Torrent | undefined {
    return this.#torrent;
  }

  /** A torrent says other bytes than came. */
  get torrentInDoubt(): boolean {
    return this.#inDoubt;
  }

  /** What came before there was a torrent is not what it says, and not all of that was released. */
  get startIsWrong(): boolean {
    return this.#startIsWrong;
  }

  /** Nothing is let through any more. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#holding);
  }

  /** Bytes are taken, and released when there is a torrent, or it is known that there is none, or after so long. */
  hold(ms: number): void {
    this.#options.assembly.hold();
    this.#holding = setTimeout(() => this.letGo(), ms);
  }

  /** There is no torrent. */
  letGo(): void {
    clearTimeout(this.#holding);
    if (this.#torrent !== undefined || this.#inDoubt) return;
    this.#options.assembly.letGo();
    this.#options.onProgress();
  }

  learnSize(lengthBytes: number | undefined): void {
    if (this.#sizeBytes !== undefined || lengthBytes === undefined) return;
    this.#sizeBytes = lengthBytes;
    this.#options.onSize(lengthBytes);
  }

  /** Takes what came from a leg. Throws when it is wrong. */
  async take(leg: Leg, bytes: Buffer): Promise<void> {
    for (const part of this.#checked(leg, bytes)) {
      leg.push(part);
      await this.advance();
    }
  }

  *#checked(leg: Leg, bytes: Buffer): Generator<Buffer> {
    const { fileHash } = this.#options;
    const [torrent, sizeBytes] = [this.#torrent, this.#sizeBytes];
    const { byTorrent, at: fromByte } = leg;
    leg.checker ??= byteChecker({ torrent, fileHash, sizeBytes, fromByte, byTorrent });
    if (leg.checker === undefined) return void (yield bytes);
    for (const part of leg.checker.push(bytes)) {
      if (!leg.checker.sure) this.unsure.add(leg.source.name);
      yield part;
    }
  }

  /** A leg has ended at the front, and nobody has said before how long the file is; or it is empty. */
  async finish(leg: Leg): Promise<void> {
    const { assembly, onComplete, onFailed } = this.#options;
    try {
      await assembly.finish();
    } catch (error) {
      onFailed(error);
      return;
    }
    onComplete(leg);
  }

  /** Moves the front as far as there are bytes for it. */
  async advance(): Promise<void> {
    if (this.#advancing) return;
    this.#advancing = true;
    const { legs, onFailed } = this.#options;
    try {
      while (await this.#advanceOnce());
      for (const leg of legs()) if (leg.waitingBytes < waitingMaxBytes) leg.bell.ring();
      if (this.#unchecked !== undefined) void this.#compare();
    } catch (error) {
      if (!this.#closed) onFailed(error);
    } finally {
      this.#advancing = false;
      this.#options.onMoved();
    }
  }

  /** What each leg has for it. False when nobody has anything, or when it is over. */
  async #advanceOnce(): Promise<boolean> {
    const { assembly, legs, onUsed, onProgress, onComplete } = this.#options;
    let moved = false;
    for (const leg of [...legs()]) {
      const bytes = leg.shiftAt(assembly.appended, performance.now());
      if (bytes === undefined) continue;
      moved = true;
      leg.usedBytes += bytes.length;
      this.gave.add(leg.source.name);
      this.#lead(leg);
      await assembly.append(bytes, leg.checker?.whole === true && bytes.length === this.#sizeBytes);
      onUsed(leg.source.kind, bytes.length);
      onProgress();
      if (assembly.complete) onComplete(leg);
      if (this.#closed) return false;
    }
    return moved;
  }

  #lead(leg: Leg): void {
    if (leg.leads) return;
    for (const other of this.#options.legs()) other.leads = false;
    leg.leads = true;
    this.#options.onLead();
  }

  /**
   * A torrent that became known meanwhile. False when it is of another file, or when what was released already is not what it says: then
   * FileHash tells at the end which of them was wrong, and nothing is released before. Throws piece-mismatch when something is wrong that
   * was not released.
   */
  async adopt(torrent: Torrent): Promise<boolean> {
    const { assembly, logger, fileHash } = this.#options;
    if (this.#torrent !== undefined) return this.#torrent.infoHash === torrent.infoHash;
    const sizeBytes = this.#sizeBytes;
    if (sizeBytes !== undefined && sizeBytes !== torrent.length) {
      logger.warn('torrent-of-other-size', { fileHash, sizeBytes, torrent: torrent.infoHash });
      return false;
    }
    // What is let through as a whole is compared with FileHash itself.
    if (torrent.length <= wholeMaxBytes && sizeBytes !== undefined) return true;
    clearTimeout(this.#holding);
    assembly.hold();
    const start = new UncheckedStart(torrent, assembly);
    const right = await start.compare();
    if (this.#closed) return false;
    if (right === false && start.pieceEnd <= assembly.released) {
      logger.warn('torrent-in-doubt', { fileHash, torrent: torrent.infoHash });
      this.#inDoubt = true;
      return false;
    }
    this.#torrent = torrent;
    this.learnSize(torrent.length);
    assembly.rightTo(start.rightTo);
    this.#options.onProgress();
    if (right === false) throw this.#wrongStart();
    start.reachesTo(this.#checkFromNowOn(torrent));
    this.#unchecked = start;
    await this.#compare();
    return true;
  }

  /** Where bytes end that were not. */
  #checkFromNowOn(torrent: Torrent): number {
    const { fileHash, legs } = this.#options;
    let toByte = this.byte;
    for (const leg of legs()) {
      if (leg.checker === undefined) continue;
      toByte = Math.max(toByte, leg.at);
      const from = { sizeBytes: torrent.length, fromByte: leg.at, byTorrent: false };
      leg.checker = byteChecker({ torrent, fileHash, ...from });
    }
    return toByte;
  }

  /** Compares what was taken before there was a torrent, as far as it is there. */
  async #compare(): Promise<void> {
    const { assembly, onProgress, onFailed } = this.#options;
    const unchecked = this.#unchecked;
    if (unchecked === undefined) return;
    try {
      const right = await unchecked.compare();
      if (this.#closed || right === undefined || this.#unchecked !== unchecked) return;
      if (!right) throw this.#wrongStart();
      this.#unchecked = undefined;
      assembly.trust();
      onProgress();
    } catch (error) {
      if (!this.#closed) onFailed(error);
    }
  }

  #wrongStart(): NarswarmError {
    this.#startIsWrong = true;
    return new NarswarmError('piece-mismatch', `what came before the torrent is not ${this.#torrent?.name}`);
  }
}
