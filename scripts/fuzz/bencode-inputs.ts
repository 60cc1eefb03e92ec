/** Bencode for the targets that read it: right in form, and mostly of the shape that they look for. */

import { type BencodeInput, bencode } from '../../swarm/bencode.ts';
import type { Random } from './random.ts';

export const bencodeWords = [
  'd',
  'l',
  'e',
  'i0e',
  'i-1e',
  'i9007199254740991e',
  '0:',
  '1:a',
  'de',
  'le',
  '99999999:',
  'i-0e',
];

export function randomBencode(random: Random, keys: readonly [string, ...string[]], depth = 0): BencodeInput {
  const kind = random.below(depth > 4 ? 2 : 4);
  if (kind === 0) return random.oneIn(8) ? -random.number() : random.number();
  if (kind === 1) return random.bytes(random.oneIn(3) ? 20 : random.below(30));
  const count = random.below(5);
  if (kind === 2) return Array.from({ length: count }, () => randomBencode(random, keys, depth + 1));
  return randomDictionary(random, keys, count, depth + 1);
}

export function randomDictionary(
  random: Random,
  keys: readonly [string, ...string[]],
  count: number,
  depth = 0,
): Map<string, BencodeInput> {
  const dictionary = new Map<string, BencodeInput>();
  for (let i = 0; i < count; i++) dictionary.set(random.pick(keys), randomBencode(random, keys, depth + 1));
  return dictionary;
}

/** A dictionary with all of `entries`, but for some that are left out or replaced. */
export function nearly(random: Random, entries: Record<string, BencodeInput>): Buffer {
  const dictionary = new Map<string, BencodeInput>();
  for (const [key, value] of Object.entries(entries)) {
    if (random.oneIn(16)) continue;
    dictionary.set(key, random.oneIn(16) ? randomBencode(random, ['a', key]) : value);
  }
  if (random.oneIn(8)) dictionary.set('x', randomBencode(random, ['a', 'b']));
  return bencode(dictionary);
}
