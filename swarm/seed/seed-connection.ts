/**
 * One incoming connection of the seed server, from its first byte to its end. Upload only: blocks go out, none come in.
 *
 * States: handshake → opening → serving → ending → closed; from each one straight to closed. No timer belongs to a connection:
 * the server calls `sweep` now and then.
 */
import type { Socket } from 'node:net';
import { isNarswarmError } from '../../nar/errors.ts';
import type { InfoHash } from '../../nar/hash.ts';
import type { PeerAddress } from '../address/peer-address.ts';
import type { UploadControl } from '../upload/upload-control.ts';
import type { LanePeer, UploadLane } from '../upload/upload-lane.ts';
import type { Encryption } from '../wire/encryption.ts';
import type { SeedLimits } from '../wire/limits.ts';
import { OpeningReader } from '../wire/opening-reader.ts';
import { WireDecoder } from '../wire/wire.ts';
import type { Handshake } from '../wire/wire-handshake.ts';
import { encodeHandshake } from '../wire/wire-handshake.ts';
import type { SendBudget } from './block-sender.ts';
import { BlockSender } from './block-sender.ts';
import type { OpenTorrent, OpenTorrents } from './open-torrents.ts';
import type { PieceDealers } from './piece-dealers.ts';
import { SeedPeer } from './seed-peer.ts';

/** How many connections ended, by reason; the reasons are a closed set, fit for a metric's label. */
export interface CloseCounts {
  'peer-left': number;
  'server-closing': number;
  violation: number;
  /** It did not begin with BitTorrent's handshake, nor with an encrypted one that we take; many peers try a plain one then. */
  'not-bittorrent': number;
  'unknown-infohash': number;
  self: number;
  'torrents-full': number;
  /** The source could not tell whether it holds the torrent. */
  'source-failed': number;
  'read-failed': number;
  'handshake-deadline': number;
  idle: number;
  'slow-reader': number;
  'peer-is-seed': number;
  /** Its torrent is not to be served any more. */
  withdrawn: number;
  /** A fault of our own, told to `onFault`. */
  fault: number;
}

export type CloseReason = keyof CloseCounts;

/** What the connections of a server share. */
export interface SeedContext {
  readonly limits: SeedLimits;
  readonly peerId: Buffer;
  readonly torrents: OpenTorrents;
  /** What encrypted handshakes need; without it there are none. */
  readonly encryption: Encryption | undefined;
  readonly budget: SendBudget;
  readonly uploads: UploadControl;
  /** For a seed that deals. */
  readonly dealers: PieceDealers | undefined;
  /** A peer said where it takes connections. */
  readonly listener: (infoHash: InfoHash, peer: PeerAddress) => void;
  readonly counters: SeedCounters;
  readonly clock: () => number;
  readonly uploaded: (infoHash: InfoHash, bytes: number) => void;
  readonly fault: (error: unknown) => void;
  /** Called once, when a torrent begins to be served. */
  readonly served: (connection: SeedConnection) => void;
  /** Called once, when the socket is closed. */
  readonly closed: (connection: SeedConnection, reason: CloseReason) => void;
}

/** Counted since the server started. */
export interface SeedCounters {
  /** Bytes of blocks that the kernel took. */
  uploadedBytes: number;
  /** Handshakes for torrents that are held. */
  handshakes: number;
  /** Requests that were refused, by BEP 6 or by silence. */
  requestsRejected: number;
  /** Pieces of metadata that were sent. */
  metadataPieces: number;
}

/** What exists only while a torrent is served. */
interface Serving {
  readonly torrent: OpenTorrent;
  readonly lane: UploadLane;
  readonly sender: BlockSender;
  readonly peer: SeedPeer;
  readonly decoder: WireDecoder;
  readonly infoHash: InfoHash;
}

export class SeedConnection {
  readonly #socket: Socket;
  readonly #context: SeedContext;
  /** See `addressKey`. */
  readonly #address: string;
  /** A torrent is served, or was when the connection ended. */
  wasServed = false;
  #state: 'handshake' | 'opening' | 'serving' | 'ending' | 'closed' = 'handshake';
  #reader: OpeningReader | undefined;
  #serving: Serving | undefined;
  #reason: CloseReason = 'peer-left';
  /** Since when the state lasts. */
  #sinceMs: number;
  #congestedSinceMs: number | undefined;

  constructor(socket: Socket, address: string, context: SeedContext) {
    this.#socket = socket;
    this.#address = address;
    this.#context = context;
    this.#sinceMs = context.clock();
    this.#reader = new OpeningReader(
      context.encryption?.options(address, (bytes) => void socket.write(bytes)),
    );
    socket.on('data', (chunk) => this.#guard(() => this.#received(chunk)));
    // 'close' follows and tells all there is to know: whoever resets a connection has left.
    socket.on('error', ignore);
    socket.on('close', () => this.#onClose());
  }

  /** Enforces every deadline. */
  sweep(): void {
    const { limits, clock } = this.#context;
    const lastedMs = clock() - this.#sinceMs;
    switch (this.#state) {
      case 'handshake':
      case 'opening':
        if (lastedMs >= limits.handshakeDeadlineMs) this.destroy('handshake-deadline');
        return;
      case 'serving': {
        const congestedMs = this.#congestedSinceMs === undefined ? 0 : clock() - this.#congestedSinceMs;
        if (this.#serving?.sender.isStuck() || congestedMs >= limits.slowReaderMs)
          this.destroy('slow-reader');
        else if (this.#serving?.sender.idle && this.#serving.peer.isIdle()) this.#end('idle');
        return;
      }
      case 'ending':
        if (lastedMs >= limits.lingerMs) this.destroy(this.#reason);
    }
  }

  /** Takes no more requests, and closes once what is being sent is out. */
  drain(): void {
    if (this.#state !== 'serving') {
      this.destroy('server-closing');
      return;
    }
    this.#serving?.decoder.stop();
    this.#serving?.sender.drain();
    this.#end('server-closing');
  }

  /** Of the torrent that is served. */
  get infoHash(): InfoHash | undefined {
    return this.#serving?.infoHash;
  }

  destroy(reason: CloseReason): void {
    if (this.#state === 'closed') return;
    if (this.#state !== 'ending') this.#reason = reason;
    this.#enter('closed');
    this.#socket.destroy();
  }

  /** Says goodbye: what was written is delivered, then FIN. */
  #end(reason: CloseReason): void {
    if (this.#state === 'ending' || this.#state === 'closed') return;
    this.#reason = reason;
    this.#enter('ending');
    const serving = this.#serving;
    serving?.decoder.stop();
    serving?.sender.drain();
    if (serving === undefined || serving.sender.idle) this.#finish();
  }

  /** FIN, and whatever the peer still says goes unread until it closes, too. */
  #finish(): void {
    this.#socket.end();
    this.#socket.resume();
  }

  #enter(state: 'opening' | 'serving' | 'ending' | 'closed'): void {
    this.#state = state;
    this.#sinceMs = this.#context.clock();
  }

  #received(chunk: Buffer): void {
    if (this.#state === 'handshake') {
      const done = this.#reader?.push(chunk);
      if (done === undefined) return;
      this.#reader = undefined;
      this.#enter('opening');
      void this.#open(done.handshake, done.rest);
      return;
    }
    const serving = this.#serving;
    if (this.#state !== 'serving' || serving === undefined) return;
    serving.peer.heard();
    serving.decoder.push(chunk);
    serving.sender.pump();
    this.#checkBacklog();
  }

  async #open(handshake: Handshake, rest: Buffer): Promise<void> {
    const { torrents, peerId } = this.#context;
    if (handshake.peerId.equals(peerId)) {
      this.destroy('self');
      return;
    }
    let torrent: OpenTorrent | 'unknown' | 'full';
    try {
      if (!torrents.mayHold(handshake.infoHash)) {
        this.destroy('unknown-infohash');
        return;
      }
      this.#socket.pause();
      torrent = await torrents.acquire(handshake.infoHash);
    } catch (error) {
      this.destroy('source-failed');
      this.#context.fault(error);
      return;
    }
    if (torrent === 'unknown') this.destroy('unknown-infohash');
    else if (torrent === 'full') this.destroy('torrents-full');
    else if (this.#state !== 'opening') torrent.release();
    else this.#guard(() => this.#serve(torrent, handshake, rest));
  }

  #serve(torrent: OpenTorrent, handshake: Handshake, rest: Buffer): void {
    const { limits, budget, clock, counters, uploads, uploaded, fault } = this.#context;
    const socket = this.#socket;
    const { infoHash } = handshake;
    const lane = this.#openLane(uploads, infoHash, torrent);
    const sender = new BlockSender({
      socket,
      torrent,
      limits,
      budget,
      lane,
      clock,
      sent: (bytes) => {
        counters.uploadedBytes += bytes;
        lane.sent(bytes);
        this.#guard(() => uploaded(infoHash, bytes));
        if (this.#state === 'ending' && sender.idle) this.#finish();
      },
      refused: (blocks) => this.#guard(() => peer.refuseLarge(blocks)),
      failed: (error) => {
        this.destroy('read-failed');
        fault(error);
      },
    });
    const peer = new SeedPeer({
      torrent,
      sender,
      limits,
      counters,
      lane,
      dealers: this.#context.dealers,
      clock,
      fast: handshake.fast,
      listens: (port) => {
        const host = socket.remoteAddress;
        if (host !== undefined)
          this.#context.listener(infoHash, { host: host.replace(/^::ffff:/, ''), port });
      },
      // The upload policy may have something to say when nobody is spoken to any more.
      write: (message) => {
        if (this.#state === 'serving') socket.write(message);
      },
      isSeed: () => this.#end('peer-is-seed'),
    });
    const decoder = new WireDecoder(peer, { pieces: peer.pieces, blockMaxBytes: 0 });
    lane.peer = new Served(sender, peer);
    this.#serving = { torrent, lane, sender, peer, decoder, infoHash };
    this.#enter('serving');
    counters.handshakes++;
    this.wasServed = true;
    this.#context.served(this);
    // Only now: a connection for an unknown torrent does not live to need them.
    socket.on('drain', () => this.#drained());
    socket.setNoDelay(true);
    socket.cork();
    socket.write(encodeHandshake({ infoHash, peerId: this.#context.peerId }));
    peer.greet(handshake);
    socket.uncork();
    if (rest.length > 0) this.#received(rest);
    if (this.#congestedSinceMs === undefined) socket.resume();
  }

  #openLane(uploads: UploadControl, infoHash: InfoHash, torrent: OpenTorrent): UploadLane {
    try {
      return uploads.open(infoHash, torrent.torrent.length, this.#address);
    } catch (error) {
      torrent.release();
      throw error;
    }
  }

  /** Stops reading from a peer that does not take the answers: they are small, but it could ask for any number. */
  #checkBacklog(): void {
    const { limits, clock } = this.#context;
    if (this.#socket.writableLength <= limits.sendWindowMaxBytes + limits.controlBacklogMaxBytes) return;
    this.#congestedSinceMs ??= clock();
    this.#socket.pause();
  }

  #drained(): void {
    if (this.#congestedSinceMs === undefined) return;
    this.#congestedSinceMs = undefined;
    this.#socket.resume();
  }

  /** A peer that breaks the protocol is dropped. A fault of our own costs that one connection, not the server. */
  #guard(action: () => void): void {
    try {
      action();
    } catch (error) {
      if (isNarswarmError(error, 'wire-violation')) {
        this.destroy(this.#state === 'handshake' ? 'not-bittorrent' : 'violation');
      } else {
        this.destroy('fault');
        this.#context.fault(error);
      }
    }
  }

  #onClose(): void {
    this.#state = 'closed';
    this.#serving?.decoder.stop();
    this.#serving?.sender.stop();
    this.#serving?.peer.close();
    this.#serving?.lane.close();
    this.#serving?.torrent.release();
    this.#serving = undefined;
    this.#context.closed(this, this.#reason);
  }
}

function ignore(): void {}

/** What a lane may do with its connection. */
class Served implements LanePeer {
  readonly #sender: BlockSender;
  readonly #peer: SeedPeer;

  constructor(sender: BlockSender, peer: SeedPeer) {
    this.#sender = sender;
    this.#peer = peer;
  }

  get nextBytes(): number {
    return this.#sender.nextBytes;
  }

  get queuedBytes(): number {
    return this.#sender.queuedBytes;
  }

  grant(maxBytes: number): number {
    return this.#sender.grant(maxBytes);
  }

  pump(): void {
    this.#sender.pump();
  }

  choke(): void {
    this.#peer.holdBack();
  }

  unchoke(): void {
    this.#peer.leave();
  }
}
