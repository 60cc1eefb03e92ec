/** A catalog's log of made NAR files as files on the disk, for measuring how fast it is followed. */

import { hash, randomFillSync } from 'node:crypto';
import { Chain, firstChain } from '../../catalog/chain.ts';
import type { CatalogFiles } from '../../catalog/files.ts';
import { type HeadSegment, signHead } from '../../catalog/head.ts';
import { segmentLimits, writeSegment } from '../../catalog/segment.ts';
import { printTorrentInfo } from '../../catalog/torrentinfo.ts';
import { narFileName } from '../../nar/compression.ts';
import { infoHashFromDigest, printSha256, sha256FromDigest, sha256ToDigest } from '../../nar/hash.ts';
import { nix32Encode } from '../../nar/nix32.ts';
import { printPublicKey, secretKeyFromSeed } from '../../nar/signature.ts';

export const followStoreDir = '/nix/store';
export const followKey = secretKeyFromSeed('made-catalog-1', Buffer.alloc(32, 1));

/** References of a made narinfo: those of cache.nixos.org have 2 KB on average in all, most of it references. */
const references = 12;
const daySeconds = 24 * 3600;

/** Makes segments and heads. */
export class MadeFollowLog {
  readonly #files: CatalogFiles;
  readonly #segments: HeadSegment[] = [];
  readonly #chain = new Chain(sha256ToDigest(firstChain(followStoreDir)));
  #records = 0;
  #sequence = 0;
  /** Of all segments, compressed. */
  fileBytes = 0;
  /** Of all records. */
  bytes = 0;

  constructor(files: CatalogFiles) {
    this.#files = files;
  }

  /** So many records more, and a head over all. */
  async add(records: number): Promise<void> {
    const end = this.#records + records;
    while (this.#records < end) await this.#addSegment(end);
    this.#sequence++;
    const time = Math.floor(Date.now() / 1000);
    const values = {
      nixStoreDir: followStoreDir,
      sequence: this.#sequence,
      time,
      expires: time + daySeconds,
    };
    const keys = [printPublicKey(followKey.publicKey)];
    const head = signHead({ ...values, segments: this.#segments, views: [], keys }, [followKey]);
    await this.#files.putHead(head);
  }

  async #addSegment(end: number): Promise<void> {
    const framed: Buffer[] = [];
    let bytes = 0;
    while (
      framed.length < segmentLimits.records &&
      this.#records < end &&
      bytes < segmentLimits.bytes - 8192
    ) {
      for (const record of madeRecords(this.#records / 2)) {
        framed.push(record);
        bytes += record.length;
        this.#chain.add(record);
        this.#records++;
      }
    }
    const { sha256, sizeBytes } = await this.#files.put(writeSegment(framed));
    this.fileBytes += sizeBytes;
    this.bytes += bytes;
    const infoHash = infoHashFromDigest(hash('sha1', sha256, 'buffer'));
    const chain = sha256FromDigest(this.#chain.digest());
    this.#segments.push({ records: this.#records, chain, sha256, sizeBytes, infoHash });
  }
}

/** As `frameRecord` does, which also reads again what it wrote: that takes longer than all the rest. */
function framed(words: string, text: string): Buffer {
  return Buffer.from(`${words} ${text.length}\n${text}`);
}

const noise = Buffer.alloc(512);

/** A torrentinfo and its narinfo, framed. */
export function madeRecords(number: number): [Buffer, Buffer] {
  randomFillSync(noise);
  const fileHash = sha256FromDigest(noise.subarray(0, 32));
  const narHash = sha256FromDigest(noise.subarray(32, 64));
  const sizes = { fileSize: 1 + (number % 1_000_000), narSize: 112 + number };
  const infoHashes = {
    infoHash: infoHashFromDigest(noise.subarray(64, 84)),
    narInfoHash: infoHashFromDigest(noise.subarray(84, 104)),
  };
  const sigs = [`made-catalog-1:${noise.subarray(104, 168).toString('base64')}`];
  const torrentInfo = { fileHash, narHash, ...sizes, ...infoHashes, compression: 'zstd', sigs } as const;
  const names = Array.from({ length: references + 1 }, (_, k) => {
    return `${nix32Encode(noise.subarray(168 + 20 * k, 188 + 20 * k))}-package-${number - k}`;
  });
  const text = [
    `StorePath: ${followStoreDir}/${names[0]}`,
    `URL: nar/${narFileName(fileHash, 'zstd')}`,
    'Compression: zstd',
    `FileHash: ${printSha256(fileHash)}`,
    `FileSize: ${sizes.fileSize}`,
    `NarHash: ${printSha256(narHash)}`,
    `NarSize: ${sizes.narSize}`,
    `References: ${names.slice(1).join(' ')}`,
    `Deriver: ${names[1]}.drv`,
    `Sig: cache.example-1:${noise.subarray(448, 512).toString('base64')}`,
    '',
  ].join('\n');
  return [framed('torrentinfo', printTorrentInfo(torrentInfo)), framed(`narinfo ${fileHash}`, text)];
}
