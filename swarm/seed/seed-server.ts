/**
 * Serves torrents to BitTorrent peers on demand: upload only, one listening socket for any number of torrents.
 *
 * BEP 3, 6 (fast extension), 9 (ut_metadata), 10. A torrent is looked up when a peer names it; one that nobody asks for costs nothing.
 */
import { once } from 'node:events';
import type { Server, Socket } from 'node:net';
import { createServer } from 'node:net';
import type { InfoHash } from '../../nar/hash.ts';
import type { PeerAddress } from '../address/peer-address.ts';
import { UploadControl, type UploadOptions, type UploadStatus } from '../upload/upload-control.ts';
import type { NamedTorrents } from '../wire/encrypted-handshake.ts';
import { Encryption } from '../wire/encryption.ts';
import type { SeedLimits } from '../wire/limits.ts';
import { seedLimits } from '../wire/limits.ts';
import { makePeerId } from '../wire/wire-handshake.ts';
import type { SeedSource } from './open-torrents.ts';
import { OpenTorrents } from './open-torrents.ts';
import { PeerGate, type Visitor } from './peer-gate.ts';
import { PieceDealers } from './piece-dealers.ts';
import { ReadMemory } from './read-memory.ts';
import type { CloseCounts, CloseReason, SeedContext, SeedCounters } from './seed-connection.ts';
import { SeedConnection } from './seed-connection.ts';

export type { HeldPieces, SeedHandle, SeedSource } from './open-torrents.ts';

export interface SeedServerOptions {
  /** The address to listen on. */
  host: string;
  /** 0 for any free one. */
  port: number;
  source: SeedSource;
  /** 20 bytes; a new one by default. A peer that shows the same one is ourselves. */
  peerId?: Buffer;
  /** Torrents that peers were told about: for these, encrypted handshakes are taken. By default none are. */
  named?: NamedTorrents;
  limits?: Partial<SeedLimits>;
  /** Whose connections are taken at all, by address; everybody's by default. Asked for each, before anything is made for it. */
  admits?: (address: string) => boolean;
  /** How fast, and when a torrent has had enough; without it as fast as it goes. */
  upload?: UploadOptions;
  /** Whether peers that share are suggested different pieces, so that few leave twice: for a seed that has everything. */
  deals?: boolean;
  /** Told where a connected peer takes connections, if it says so. */
  onListener?: (infoHash: InfoHash, peer: PeerAddress) => void;
  /** Called as blocks leave, at most once per read. */
  onUpload?: (infoHash: InfoHash, bytes: number) => void;
  /** An error that cost a connection and was no doing of the peer: the source, the disk, or a fault of ours. For the log. */
  onFault?: (error: unknown) => void;
  /** Milliseconds that never go back. */
  clock?: () => number;
}

export interface SeedStatus extends SeedCounters {
  /** At this moment. */
  connections: number;
  openTorrents: number;
  upload: UploadStatus;
  /** Bytes that were read and wait for peers to take them, at this moment. */
  unsentBytes: number;
  /** Connections that were closed at once: there were too many of them, or too many from there wanted unknown torrents. */
  refusedConnections: number;
  unknownInfoHashes: number;
  /** Connections that were dropped for breaking the protocol or a limit. */
  violations: number;
  readFailures: number;
  closed: CloseCounts;
}

export interface SeedServer {
  readonly host: string;
  readonly port: number;
  readonly peerId: Buffer;
  status(): SeedStatus;
  /** Bytes a second for all torrents together from now on; `undefined` for no such limit. */
  setUploadRate(bytesPerSecond: number | undefined): void;
  /** Whether nothing holds back the upload of a torrent of `sizeBytes` now. */
  isUploadFree(infoHash: InfoHash, sizeBytes: number): boolean;
  /** Bytes of it that left by another way and count as uploaded to the policy. */
  uploadedElsewhere(infoHash: InfoHash, sizeBytes: number, bytes: number): void;
  /** The torrent is not to be served any more, or not as it was: its connections are closed, and it is opened anew if the source still has it. */
  forget(infoHash: InfoHash): void;
  /** Stops listening, lets what is being sent go out for a moment, then closes every connection and file. May be called twice. */
  close(): Promise<void>;
}

/** Rejects when it cannot listen. */
export async function openSeedServer(options: SeedServerOptions): Promise<SeedServer> {
  const server = new Listener(options);
  await server.listen(options.host, options.port);
  return server;
}

class Listener implements SeedServer {
  host = '';
  port = 0;
  readonly peerId: Buffer;
  readonly #limits: SeedLimits;
  readonly #gate: PeerGate;
  readonly #server: Server;
  readonly #torrents: OpenTorrents;
  readonly #uploads: UploadControl;
  readonly #dealers: PieceDealers | undefined;
  readonly #context: SeedContext;
  readonly #connections = new Map<SeedConnection, Visitor>();
  readonly #counters: SeedCounters = {
    uploadedBytes: 0,
    handshakes: 0,
    requestsRejected: 0,
    metadataPieces: 0,
  };
  readonly #closed: CloseCounts = {
    'peer-left': 0,
    'server-closing': 0,
    violation: 0,
    'not-bittorrent': 0,
    'unknown-infohash': 0,
    self: 0,
    'torrents-full': 0,
    'source-failed': 0,
    'read-failed': 0,
    'handshake-deadline': 0,
    idle: 0,
    'slow-reader': 0,
    'peer-is-seed': 0,
    withdrawn: 0,
    fault: 0,
  };
  #refused = 0;
  #sweeper: NodeJS.Timeout | undefined;
  #closing: Promise<void> | undefined;
  #whenGone: (() => void) | undefined;

  constructor(options: SeedServerOptions) {
    const {
      source,
      peerId = makePeerId(),
      named,
      limits,
      upload,
      onUpload,
      onListener,
      onFault,
      clock,
    } = options;
    this.peerId = peerId;
    this.#limits = { ...seedLimits, ...limits };
    const now = clock ?? (() => performance.now());
    this.#gate = new PeerGate(this.#limits, now, options.admits);
    this.#server = createServer({ blockList: this.#gate });
    this.#torrents = new OpenTorrents(source, this.#limits, now);
    const dealers = options.deals ? new PieceDealers(now) : undefined;
    this.#dealers = dealers;
    const piecesMissing = (infoHash: InfoHash): boolean => dealers?.piecesMissing(infoHash) ?? false;
    this.#uploads = new UploadControl({ piecesMissing, ...(onFault && { onFault }), ...upload }, now);
    this.#context = {
      limits: this.#limits,
      peerId,
      torrents: this.#torrents,
      encryption: named && new Encryption(named, this.#limits, now),
      budget: { heldBytes: 0, memory: new ReadMemory() },
      uploads: this.#uploads,
      dealers: this.#dealers,
      listener: onListener ?? (() => {}),
      counters: this.#counters,
      clock: now,
      uploaded: onUpload ?? (() => {}),
      fault: onFault ?? (() => {}),
      served: (connection) => this.#served(connection),
      closed: (connection, reason) => this.#removed(connection, reason),
    };
  }

  async listen(host: string, port: number): Promise<void> {
    this.#server.maxConnections = this.#limits.connectionsMax;
    this.#server.on('connection', (socket) => this.#accept(socket));
    this.#server.on('drop', () => this.#refused++);
    this.#server.listen({ host, port, backlog: this.#limits.backlog });
    await once(this.#server, 'listening');
    // From here on, an error is an accept that failed, for want of file descriptors: that peer is lost, the others are served.
    this.#server.on('error', () => this.#refused++);
    const address = this.#server.address();
    if (address !== null && typeof address === 'object') {
      this.host = address.address;
      this.port = address.port;
    }
    this.#sweeper = setInterval(() => this.#sweep(), this.#limits.sweepMs);
  }

  status(): SeedStatus {
    return {
      ...this.#counters,
      connections: this.#connections.size,
      openTorrents: this.#torrents.size,
      upload: this.#uploads.status(),
      unsentBytes: this.#context.budget.heldBytes,
      refusedConnections: this.#refused + this.#gate.refused,
      unknownInfoHashes: this.#closed['unknown-infohash'],
      violations: this.#closed.violation,
      readFailures: this.#closed['read-failed'],
      closed: { ...this.#closed },
    };
  }

  setUploadRate(bytesPerSecond: number | undefined): void {
    this.#uploads.setRate(bytesPerSecond);
  }

  isUploadFree(infoHash: InfoHash, sizeBytes: number): boolean {
    return this.#uploads.isFree(infoHash, sizeBytes);
  }

  uploadedElsewhere(infoHash: InfoHash, sizeBytes: number, bytes: number): void {
    this.#uploads.sentElsewhere(infoHash, sizeBytes, bytes);
  }

  forget(infoHash: InfoHash): void {
    for (const connection of this.#connections.keys()) {
      if (connection.infoHash === infoHash) connection.destroy('withdrawn');
    }
    this.#torrents.forget(infoHash);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    clearInterval(this.#sweeper);
    const stopped = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const connection of this.#connections.keys()) connection.drain();
    if (this.#connections.size > 0) {
      const gone = new Promise<void>((resolve) => {
        this.#whenGone = resolve;
      });
      const deadline = setTimeout(() => {
        for (const connection of this.#connections.keys()) connection.destroy('server-closing');
      }, this.#limits.drainMs);
      await gone;
      clearTimeout(deadline);
    }
    this.#uploads.close();
    await Promise.all([stopped, this.#torrents.close()]);
  }

  #accept(socket: Socket): void {
    const visitor = this.#closing === undefined ? this.#gate.enter() : undefined;
    if (visitor === undefined) {
      this.#refused++;
      socket.on('error', () => {});
      socket.destroy();
      return;
    }
    this.#connections.set(new SeedConnection(socket, visitor.key, this.#context), visitor);
  }

  #served(connection: SeedConnection): void {
    const visitor = this.#connections.get(connection);
    if (visitor !== undefined) visitor.served++;
  }

  #removed(connection: SeedConnection, reason: CloseReason): void {
    const visitor = this.#connections.get(connection);
    if (visitor === undefined) return;
    this.#connections.delete(connection);
    this.#closed[reason]++;
    if (connection.wasServed) visitor.served--;
    if (reason === 'unknown-infohash') this.#gate.noteUnknown(visitor);
    this.#gate.leave(visitor);
    if (this.#connections.size === 0) this.#whenGone?.();
  }

  #sweep(): void {
    for (const connection of this.#connections.keys()) connection.sweep();
    this.#uploads.sweep();
    this.#dealers?.sweep();
    this.#torrents.sweep();
    this.#context.budget.memory.sweep();
  }
}
