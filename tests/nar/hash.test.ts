import { createHash } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import {
  infoHashFromDigest,
  infoHashToDigest,
  parseHash,
  parseInfoHash,
  parseSha256,
  printSha256,
  sha256FromDigest,
  sha256ToDigest,
} from '../../nar/hash.ts';
import { nix32Decode, nix32Encode } from '../../nar/nix32.ts';

const invalid = { code: 'hash-invalid' };

t.test('nix32 text is what Nix prints', async (t) => {
  // nix-hash --type sha256 --to-base32 of the SHA-256 of the empty text.
  const empty = createHash('sha256').digest();
  t.equal(nix32Encode(empty), '0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73');
});

t.test('nix32 reads back what it wrote, of any length', async () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
      return nix32Decode(nix32Encode(bytes)).equals(Buffer.from(bytes));
    }),
  );
});

t.test('nix32 text that no bytes give is refused', async (t) => {
  t.throws(() => nix32Decode('e'), invalid, 'a letter that is no digit');
  t.throws(() => nix32Decode('z0'), invalid, 'bits beyond the last byte');
  t.throws(() => nix32Decode('0'), invalid, 'a length that no bytes have');
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom(...'0123456789abcdfghijklmnpqrsvwxyz'), maxLength: 60 }),
      (text) => {
        try {
          return nix32Encode(nix32Decode(text)) === text;
        } catch (error) {
          return (error as { code: string }).code === 'hash-invalid';
        }
      },
    ),
  );
});

t.test('all spellings of a hash are one hash', async () => {
  fc.assert(
    fc.property(
      fc.constantFrom('md5', 'sha1', 'sha256', 'sha512').chain((algorithm) =>
        fc.record({
          algorithm: fc.constant(algorithm),
          digest: fc.uint8Array({
            minLength: createHash(algorithm).digest().length,
            maxLength: createHash(algorithm).digest().length,
          }),
        }),
      ),
      ({ algorithm, digest }) => {
        const bytes = Buffer.from(digest);
        const spellings = [
          `${algorithm}:${nix32Encode(bytes)}`,
          `${algorithm}:${bytes.toString('hex')}`,
          `${algorithm}:${bytes.toString('base64')}`,
          `${algorithm}-${bytes.toString('base64')}`,
        ];
        return spellings
          .map((text) => parseHash(text))
          .every((hash) => hash.algorithm === algorithm && hash.digest.equals(bytes));
      },
    ),
  );
});

t.test('what is no hash is refused', async (t) => {
  const digits = nix32Encode(Buffer.alloc(32, 1));
  for (const text of [
    '',
    'sha256:',
    `sha257:${digits}`,
    `sha256:${digits}0`,
    `sha256-${digits}`,
    digits,
    'x'.repeat(1000),
  ]) {
    t.throws(() => parseHash(text), invalid, text.slice(0, 60));
  }
  t.throws(() => parseSha256(`sha1:${Buffer.alloc(20).toString('hex')}`), invalid, 'another algorithm');
  t.throws(() => sha256FromDigest(Buffer.alloc(31)), invalid, 'a short digest');
  t.throws(() => infoHashFromDigest(Buffer.alloc(32)), invalid, 'a long infohash');
});

t.test('a SHA-256 and an infohash print as they were read', async (t) => {
  const hash = parseSha256(Buffer.alloc(32, 7).toString('hex'));
  t.equal(parseSha256(printSha256(hash)), hash);
  t.same(sha256ToDigest(hash), Buffer.alloc(32, 7));
  const infoHash = parseInfoHash('ABCDEF0123456789abcdef0123456789abcdef01');
  t.equal(infoHash, 'abcdef0123456789abcdef0123456789abcdef01');
  t.equal(infoHashFromDigest(infoHashToDigest(infoHash)), infoHash);
  t.throws(() => parseInfoHash('abc'), invalid);
});
