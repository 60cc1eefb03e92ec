/** A catalog's log made from numbers, its files in memory, and a transport over them that can be told to misbehave. */

import { hash } from 'node:crypto';
import { Chain, firstChain } from '../../catalog/chain.ts';
import type { CatalogTransport } from '../../catalog/follow.ts';
import { type HeadSegment, type HeadValues, type HeadView, signHead } from '../../catalog/head.ts';
import { type CatalogRecord, frameRecord } from '../../catalog/record.ts';
import { writeSegment } from '../../catalog/segment.ts';
import { printTorrentInfo } from '../../catalog/torrentinfo.ts';
import { NarswarmError } from '../../nar/errors.ts';
import { infoHashFromDigest, type Sha256, sha256FromDigest, sha256ToDigest } from '../../nar/hash.ts';
import { printPublicKey, type SecretKey, secretKeyFromSeed } from '../../nar/signature.ts';
import { row } from './made-rows.ts';

export const nixStoreDir = '/nix/store';
export const logKey = secretKeyFromSeed('catalog.example-1', Buffer.alloc(32, 1));
/** When the heads are made: seconds since 1970. */
export const headTime = 1_800_000_000;
const lifetimeSeconds = 7 * 24 * 3600;

/** The torrentinfo and the narinfo of NAR file `n`. */
export function recordsOf(n: number): CatalogRecord[] {
  const { entry, narInfo } = row(n);
  return [
    { kind: 'torrentinfo', text: printTorrentInfo(entry) },
    { kind: 'narinfo', fileHash: entry.fileHash, text: narInfo.text },
  ];
}

export function narFiles(first: number, count: number): CatalogRecord[] {
  return Array.from({ length: count }, (_, k) => recordsOf(first + k)).flat();
}

export class MadeLog {
  readonly files = new Map<Sha256, Buffer>();
  readonly segments: HeadSegment[] = [];
  views: HeadView[] = [];
  keys: SecretKey[] = [logKey];
  /** Those that sign. */
  signers: SecretKey[] = [logKey];
  sequence = 0;
  time = headTime;
  nixStoreDir = nixStoreDir;
  readonly #framed: Buffer[] = [];

  get records(): number {
    return this.#framed.length;
  }

  /** One more segment. */
  async add(records: readonly CatalogRecord[]): Promise<HeadSegment> {
    return this.addFramed(records.map(frameRecord));
  }

  async addFramed(framed: readonly Buffer[]): Promise<HeadSegment> {
    this.#framed.push(...framed);
    const file = await this.put(framed);
    const last = this.segments.at(-1);
    const chain = new Chain(sha256ToDigest(last?.chain ?? firstChain(this.nixStoreDir)));
    for (const record of framed) chain.add(record);
    const segment = { records: this.records, chain: sha256FromDigest(chain.digest()), ...file };
    this.segments.push(segment);
    return segment;
  }

  /** One segment in place of all. */
  async fuse(): Promise<void> {
    const last = this.segments.at(-1);
    if (last === undefined) return;
    this.segments.splice(0, this.segments.length, { ...last, ...(await this.put(this.#framed)) });
  }

  async addView(name: string, records: readonly CatalogRecord[]): Promise<HeadView> {
    const paths = records.filter(({ kind }) => kind === 'narinfo').length;
    const view = { name, paths, ...(await this.put(records.map(frameRecord))) };
    this.views.push(view);
    return view;
  }

  async put(framed: readonly Buffer[]) {
    const chunks: Buffer[] = [];
    for await (const chunk of writeSegment(framed)) chunks.push(chunk);
    return this.putFile(Buffer.concat(chunks));
  }

  putFile(file: Buffer) {
    const sha256 = sha256FromDigest(hash('sha256', file, 'buffer'));
    this.files.set(sha256, file);
    return { sha256, sizeBytes: file.length, infoHash: infoHashFromDigest(hash('sha1', file, 'buffer')) };
  }

  /** The next head. */
  head(values: Partial<HeadValues> = {}): string {
    this.sequence++;
    return signHead(
      {
        nixStoreDir: this.nixStoreDir,
        sequence: this.sequence,
        time: this.time,
        expires: this.time + lifetimeSeconds,
        segments: [...this.segments],
        views: this.views,
        keys: this.keys.map((key) => printPublicKey(key.publicKey)),
        ...values,
      },
      this.signers,
    );
  }
}

/** Serves the files of a log, and whatever head it was given last. */
export class MadeTransport implements CatalogTransport {
  readonly files: Map<Sha256, Buffer>;
  head: string;
  /** What was asked for, in order. */
  readonly asked: string[] = [];
  /** In place of the bytes of a file. */
  spoil: (bytes: Buffer) => Buffer = (bytes) => bytes;

  constructor(log: MadeLog, head: string) {
    this.files = log.files;
    this.head = head;
  }

  async fetchHead(etag?: string): Promise<{ text: string; etag: string } | 'unchanged'> {
    const own = hash('sha256', this.head);
    this.asked.push(etag === undefined ? 'head' : 'head if changed');
    return etag === own ? 'unchanged' : { text: this.head, etag: own };
  }

  async *fetchFile({ sha256 }: { sha256: Sha256 }): AsyncGenerator<Buffer> {
    this.asked.push(sha256);
    const bytes = this.files.get(sha256);
    if (bytes === undefined) throw new NarswarmError('segment-missing', `no file ${sha256}`);
    const spoilt = this.spoil(bytes);
    for (let at = 0; at < spoilt.length; at += 1000) yield spoilt.subarray(at, at + 1000);
  }
}
