/** The checks of a catalog's head, with the segments that lie beside it, and of a segment by itself. */

import { createReadStream, existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Chain, firstChain } from '../../catalog/chain.ts';
import {
  type CatalogHead,
  type HeadSegment,
  headMaxBytes,
  parseHead,
  verifyHead,
} from '../../catalog/head.ts';
import { decodeRecord } from '../../catalog/record.ts';
import {
  parseSegmentName,
  readSegment,
  segmentLimits,
  segmentName,
  viewLimits,
} from '../../catalog/segment.ts';
import { NarswarmError } from '../../nar/errors.ts';
import { sha256ToDigest } from '../../nar/hash.ts';
import type { PublicKey } from '../../nar/signature.ts';
import { sha256OfFile } from '../hash-nar-file.ts';
import { attempt, type Check, compare, fails, holds, unknown } from './check.ts';

/** `bytes`: of the file, a byte more than a head may have if it is longer. */
export async function checkHead(file: string, bytes: Buffer, keys: readonly PublicKey[]): Promise<Check[]> {
  if (bytes.length > headMaxBytes) return [fails('format', `more than ${headMaxBytes} bytes`)];
  const parsed = await attempt('format', () => parseHead(bytes.toString('latin1')));
  if ('failure' in parsed) return [parsed.failure];
  const head = parsed.value;
  const { sequence, records, segments, expires } = head;
  const checks = [
    holds('format', `head ${sequence}, ${records} records in ${segments.length} segments`),
    signatureCheck(head, keys),
    expiryCheck(expires),
  ];
  let first: Pick<HeadSegment, 'records' | 'chain'> = { records: 0, chain: firstChain(head.nixStoreDir) };
  for (const segment of segments) {
    const path = join(dirname(file), segmentName(segment.sha256));
    const what = `records up to ${segment.records}`;
    if (existsSync(path)) {
      const before = first;
      const read = await attempt(what, () => checkAgainstHead(path, before, segment));
      checks.push('failure' in read ? read.failure : holds(what, basename(path)));
    } else checks.push(unknown(what, `${basename(path)} is not beside the head`));
    first = segment;
  }
  return checks;
}

/** A segment or view. */
export async function checkSegment(file: string, signal: AbortSignal): Promise<Check[]> {
  const named = parseSegmentName(basename(file));
  const hashed = await attempt('file', () => sha256OfFile(file, signal));
  if ('failure' in hashed) return [hashed.failure];
  const name = named === undefined ? unknown('name', 'another') : compare('name', named, hashed.value);
  const counts = new Map<string, number>();
  const read = await attempt('records', async () => {
    for await (const group of readSegment(createReadStream(file), viewLimits)) {
      for (const record of group) {
        const kind = decodeRecord(record)?.kind ?? `unknown (${record.kind})`;
        counts.set(kind, (counts.get(kind) ?? 0) + 1);
      }
    }
  });
  if ('failure' in read) return [name, read.failure];
  const detail = [...counts].map(([kind, count]) => `${count} ${kind}`).join(', ');
  return [name, holds('records', detail === '' ? 'none' : detail)];
}

function signatureCheck(head: CatalogHead, keys: readonly PublicKey[]): Check {
  const names = head.sigs.map((sig) => sig.slice(0, Math.max(0, sig.indexOf(':')))).join(', ');
  const claimed = names === '' ? 'it has none' : `it claims ${names}`;
  if (keys.length === 0) return unknown('signature', `no --catalog-key was given; ${claimed}`);
  const signer = verifyHead(head, keys);
  return signer === undefined
    ? fails('signature', `none by a --catalog-key; ${claimed}`)
    : holds('signature', signer);
}

function expiryCheck(expires: number): Check {
  const when = new Date(expires * 1000).toISOString();
  return expires * 1000 > Date.now() ? holds('expires', when) : fails('expires', `since ${when}`);
}

/** Throws what is wrong with it. */
async function checkAgainstHead(
  path: string,
  first: Pick<HeadSegment, 'records' | 'chain'>,
  segment: HeadSegment,
): Promise<void> {
  if ((await sha256OfFile(path, new AbortController().signal)) !== segment.sha256) {
    throw new NarswarmError('segment-mismatch', 'other bytes than the head says');
  }
  const chain = new Chain(sha256ToDigest(first.chain));
  let { records } = first;
  for await (const group of readSegment(createReadStream(path), segmentLimits)) {
    for (const record of group) {
      decodeRecord(record);
      chain.add(record.framed);
      records++;
    }
  }
  if (records !== segment.records || !chain.isAt(sha256ToDigest(segment.chain))) {
    throw new NarswarmError('segment-corrupt', 'other records than the head says');
  }
}
