/** Spoils an input in the ways in which inputs are spoilt: by noise, by cutting and pasting, and by words that mean something. */

import type { Random } from './random.ts';

/** Bytes of the longest input that mutation makes. Every bound below it is reached; longer ones only make the run slower. */
const inputMaxBytes = 4_096;

/** Numbers that lie at the edges of what fits, as bytes and as digits. */
const edges = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff] as const;

export function mutate(random: Random, input: Buffer, words: readonly string[]): Buffer {
  let bytes = input;
  for (let rounds = 1 + random.below(4); rounds > 0; rounds--) bytes = mutateOnce(random, bytes, words);
  return bytes.length > inputMaxBytes ? bytes.subarray(0, inputMaxBytes) : bytes;
}

function mutateOnce(random: Random, bytes: Buffer, words: readonly string[]): Buffer {
  const at = random.below(bytes.length + 1);
  const end = Math.min(bytes.length, at + 1 + random.below(random.oneIn(3) ? bytes.length + 1 : 4));
  switch (random.below(9)) {
    case 0: {
      const flipped = Buffer.from(bytes);
      if (at < bytes.length) flipped[at] = (flipped[at] ?? 0) ^ (1 << random.below(8));
      return flipped;
    }
    case 1:
      return splice(bytes, at, end, random.bytes(end - at));
    case 2:
      return splice(bytes, at, end, Buffer.alloc(0));
    case 3:
      return splice(bytes, at, at, random.bytes(1 + random.below(8)));
    case 4:
      return bytes.subarray(0, at);
    case 5: {
      // A part twice, or many times.
      const part = bytes.subarray(at, end);
      return splice(bytes, at, at, Buffer.concat(new Array<Buffer>(random.oneIn(8) ? 40 : 1).fill(part)));
    }
    case 6: {
      const from = random.below(bytes.length + 1);
      return splice(bytes, at, at, bytes.subarray(from, from + 1 + random.below(32)));
    }
    case 7: {
      const number = random.pick(edges);
      if (random.oneIn(2)) return splice(bytes, at, end, Buffer.from(String(number)));
      const four = Buffer.alloc(4);
      if (random.oneIn(2)) four.writeUInt32BE(number);
      else four.writeUInt32LE(number);
      return splice(bytes, at, at + 4, four);
    }
    default: {
      const word = words[random.below(words.length)] ?? '\0';
      return splice(bytes, at, random.oneIn(2) ? at : end, Buffer.from(word, 'latin1'));
    }
  }
}

function splice(bytes: Buffer, start: number, end: number, between: Buffer): Buffer {
  return Buffer.concat([bytes.subarray(0, start), between, bytes.subarray(end)]);
}
