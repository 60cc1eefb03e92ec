/**
 * What a mirror holds, told in one request, and what it is told in return: the bodies of `POST /coverage`. docs/format.md has the rules.
 *
 * A mirror of a million NAR files would announce for hours if it announced each; a bit for each ordinal of the catalog says the same in
 * 125 kB, and next to nothing when it holds all of them.
 */

import { promisify } from 'node:util';
import { deflateRaw, inflateRaw } from 'node:zlib';
import { z } from 'zod';
import { Bitmap } from '../nar/bitmap.ts';
import { NarswarmError } from '../nar/errors.ts';
import { parseSha256, type Sha256 } from '../nar/hash.ts';

/** Where coverage is told, below the URL of a catalog. */
export const coveragePath = '/coverage';

const format = 'narswarm-coverage-1';
/** Ordinals in a row that are nobody's, of which it is looked past. */
const nobodysMax = 10_000;

/** Ordinals of the largest catalog that is spoken of: 16 MiB of counts, inflated. */
export const coverageOrdinalsMax = 16 * 1024 * 1024;
/** A bitmap of that many that compresses to nothing less, in base64. */
export const coverageMaxBodyBytes = 3 * 1024 * 1024;
/** Two counts for each ordinal, in base64. */
export const coverageMaxAnswerBytes = 48 * 1024 * 1024;
export const coverageIntervalMinSeconds = 5;
export const coverageIntervalMaxSeconds = 24 * 3_600;

const deflated = promisify(deflateRaw);
const inflated = promisify<Uint8Array, { maxOutputLength: number }, Buffer>(inflateRaw);

/** What tells one catalog from another whose ordinals mean other NAR files. */
export interface OrdinalBase {
  /** One more than the highest. */
  readonly ordinals: number;
  byOrdinal(ordinal: number): Sha256 | undefined;
}

export interface Coverage {
  /** Where it takes BitTorrent peers, at the address from which it asks. */
  readonly port: number;
  /** Bit k: it holds the NAR file with ordinal k. */
  readonly held: Bitmap;
}

const requestBody = z.object({
  format: z.literal(format),
  port: z.int().min(1).max(65_535),
  ordinals: z.int().min(1).max(coverageOrdinalsMax),
  /** FileHashes of the first and the last of these ordinals that are a NAR file's. */
  first: z.string(),
  last: z.string(),
  held: z.base64(),
});

export async function printCoverage({ port, held }: Coverage, base: OrdinalBase): Promise<string> {
  const ordinals = held.length;
  const [first, last] = [firstOf(base, ordinals), lastOf(base, ordinals)];
  const bits = (await deflated(held.bytes)).toString('base64');
  return JSON.stringify({ format, port, ordinals, first, last, held: bits });
}

/** Throws coverage-invalid for what is none, or about another catalog than `base`. */
export async function parseCoverage(body: unknown, base: OrdinalBase): Promise<Coverage> {
  const parsed = requestBody.safeParse(body);
  if (!parsed.success) throw invalid('it lacks something', parsed.error);
  const { port, ordinals, first, last, held } = parsed.data;
  if (ordinals > base.ordinals) throw invalid(`it has ${ordinals} ordinals, the catalog ${base.ordinals}`);
  if (!isHash(first, firstOf(base, ordinals)) || !isHash(last, lastOf(base, ordinals)))
    throw invalid('it is about another catalog');
  const bytes = await inflate(held, Math.ceil(ordinals / 8));
  const unused = (8 - (ordinals % 8)) % 8;
  if ((bytes.at(-1) ?? 0) >>> (8 - unused) !== 0) throw invalid('a bit after the last ordinal');
  return { port, held: new Bitmap(ordinals, bytes) };
}

/** What is known of the NAR files of a catalog, by ordinal. */
export interface CoverageAnswer {
  /** When to come again. */
  readonly intervalSeconds: number;
  /** Seeds besides whoever asked, 255 at most. */
  readonly seeds: Uint8Array;
  /** How often it was asked for lately: a level, one more for about twice as often. */
  readonly demand: Uint8Array;
}

const answerBody = z.object({
  format: z.literal(format),
  intervalSeconds: z.int().positive(),
  ordinals: z.int().min(0).max(coverageOrdinalsMax),
  seeds: z.base64(),
  demand: z.base64(),
});

export async function printCoverageAnswer(answer: CoverageAnswer): Promise<string> {
  const { intervalSeconds, seeds, demand } = answer;
  const [packedSeeds, packedDemand] = await Promise.all([deflated(seeds), deflated(demand)]);
  return JSON.stringify({
    format,
    intervalSeconds,
    ordinals: seeds.length,
    seeds: packedSeeds.toString('base64'),
    demand: packedDemand.toString('base64'),
  });
}

/** Throws coverage-invalid. */
export async function parseCoverageAnswer(body: unknown): Promise<CoverageAnswer> {
  const parsed = answerBody.safeParse(body);
  if (!parsed.success) throw invalid('the answer lacks something', parsed.error);
  const { intervalSeconds, ordinals, seeds, demand } = parsed.data;
  return {
    intervalSeconds: Math.min(
      Math.max(intervalSeconds, coverageIntervalMinSeconds),
      coverageIntervalMaxSeconds,
    ),
    seeds: await inflate(seeds, ordinals),
    demand: await inflate(demand, ordinals),
  };
}

/** Exactly `bytes` bytes: whatever would be more is not even inflated. */
async function inflate(base64: string, bytes: number): Promise<Buffer> {
  let out: Buffer;
  try {
    out = await inflated(Buffer.from(base64, 'base64'), { maxOutputLength: Math.max(1, bytes) });
  } catch (cause) {
    throw invalid(`its bits are not deflated, or more than ${bytes} bytes`, cause);
  }
  if (out.length !== bytes) throw invalid(`${out.length} bytes of bits, not ${bytes}`);
  return out;
}

/** An ordinal may be nobody's, where a torrentinfo came a second time. */
function firstOf(base: OrdinalBase, ordinals: number): Sha256 | undefined {
  for (let ordinal = 0; ordinal < Math.min(ordinals, nobodysMax); ordinal++) {
    const fileHash = base.byOrdinal(ordinal);
    if (fileHash !== undefined) return fileHash;
  }
  return undefined;
}

function lastOf(base: OrdinalBase, ordinals: number): Sha256 | undefined {
  for (let ordinal = ordinals - 1; ordinal >= Math.max(0, ordinals - nobodysMax); ordinal--) {
    const fileHash = base.byOrdinal(ordinal);
    if (fileHash !== undefined) return fileHash;
  }
  return undefined;
}

function isHash(text: string, hash: Sha256 | undefined): boolean {
  try {
    return parseSha256(text) === hash;
  } catch {
    return false;
  }
}

function invalid(what: string, cause?: unknown): NarswarmError {
  return new NarswarmError('coverage-invalid', `coverage: ${what}`, cause === undefined ? {} : { cause });
}
