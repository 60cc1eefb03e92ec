/** A NAR file as a part of a pack, from peers that are connected already for others in it. */

import type { Sha256 } from '../../nar/hash.ts';
import type { PackConnections, PackPlace } from '../../swarm/fetch/pack-connections.ts';
import type { NarBytes, NarSource, OpenNarBytes } from '../race/nar-source.ts';

export interface PackSourceOptions {
  fileHash: Sha256;
  /** Where it is said to be, of so many bytes. The pack itself is asked for nothing but bytes. */
  place: Pick<PackPlace, 'infoHash' | 'offset' | 'lengthBytes' | 'peers' | 'stepBytes'>;
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
    const { place, connections } = this.#options;
    const { offset, lengthBytes } = place;
    if (this.#spoilt || fromByte >= lengthBytes) return undefined;
    const rest = { ...place, offset: offset + fromByte, lengthBytes: lengthBytes - fromByte };
    const read = connections.open(rest, signal);
    if (read === undefined) return undefined;
    this.#givers = read.givers;
    return { lengthBytes, live: read.live, bytes: unchecked(read.bytes, read.givers) };
  }

  warm(): boolean {
    return !this.#spoilt && this.#options.connections.isWarm(this.#options.place.infoHash);
  }

  spoilt(): void {
    const { connections, place, fileHash, onSpoilt } = this.#options;
    this.#spoilt = true;
    connections.distrust(place.infoHash, this.#givers);
    onSpoilt(fileHash);
  }
}

/** Nothing is known of a pack's own pieces here: whoever reads compares the bytes with FileHash or with the NAR file's own torrent. */
async function* unchecked(
  bytes: AsyncIterable<Buffer>,
  givers: ReadonlySet<string>,
): AsyncGenerator<NarBytes> {
  for await (const part of bytes) yield { bytes: part, checked: false, peers: [...givers] };
}
