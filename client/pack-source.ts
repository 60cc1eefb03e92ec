/** A NAR file as a part of a pack, from peers that are connected already for others in it. */

import type { Sha256 } from '../nar/hash.ts';
import type { PackConnections } from '../swarm/fetch/pack-connections.ts';
import type { Found } from './catalog-client.ts';
import type { NarBytes, NarSource, OpenNarBytes } from './nar-sources.ts';

export interface PackSourceOptions {
  fileHash: Sha256;
  /** Where it is, and which torrent says what its bytes are: the pack itself is asked for nothing but bytes. */
  found: Found & Required<Pick<Found, 'pack'>>;
  connections: Pick<PackConnections, 'open' | 'isWarm' | 'distrust'>;
  /** The bytes that were there are others: nobody is asked for this NAR file in that pack again. */
  onSpoilt(fileHash: Sha256): void;
}

export class PackSource implements NarSource {
  readonly kind = 'swarm';
  readonly name = 'pack';
  readonly #options: PackSourceOptions;
  /** Of the last attempt. */
  #givers: ReadonlySet<string> = new Set();
  #spoilt = false;

  constructor(options: PackSourceOptions) {
    this.#options = options;
  }

  async open(fromByte: number, signal: AbortSignal): Promise<OpenNarBytes | undefined> {
    const { found, connections } = this.#options;
    const { torrent, pack, peers } = found;
    if (this.#spoilt || fromByte >= torrent.length) return undefined;
    const place = {
      infoHash: pack.infoHash,
      offset: pack.offset + fromByte,
      lengthBytes: torrent.length - fromByte,
      peers,
      stepBytes: torrent.pieceLength,
    };
    const read = connections.open(place, signal);
    if (read === undefined) return undefined;
    this.#givers = read.givers;
    return { lengthBytes: torrent.length, live: read.live, bytes: unchecked(read.bytes, read.givers) };
  }

  warm(): boolean {
    return !this.#spoilt && this.#options.connections.isWarm(this.#options.found.pack.infoHash);
  }

  spoilt(): void {
    const { connections, found, fileHash, onSpoilt } = this.#options;
    this.#spoilt = true;
    connections.distrust(found.pack.infoHash, this.#givers);
    onSpoilt(fileHash);
  }
}

/** Nothing is known of a pack's own pieces here: whoever reads compares the bytes with those of the NAR file's torrent. */
async function* unchecked(
  bytes: AsyncIterable<Buffer>,
  givers: ReadonlySet<string>,
): AsyncGenerator<NarBytes> {
  for await (const part of bytes) yield { bytes: part, checked: false, peers: [...givers] };
}
