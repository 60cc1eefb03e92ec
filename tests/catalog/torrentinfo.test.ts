import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import t from 'tap';
import {
  parseTorrentInfo,
  printTorrentInfo,
  signTorrentInfo,
  type TorrentInfo,
  torrentInfoMaxBytes,
  torrentInfoName,
  torrentInfoSigsMax,
  torrentInfoSizeMaxBytes,
  torrentInfoText,
  verifyTorrentInfo,
} from '../../catalog/torrentinfo.ts';
import { compressions } from '../../nar/compression.ts';
import { isNarswarmError } from '../../nar/errors.ts';
import { infoHashFromDigest, sha256FromDigest } from '../../nar/hash.ts';
import {
  parsePublicKey,
  parseSecretKey,
  printPublicKey,
  publicKeyOf,
  secretKeyFromSeed,
} from '../../nar/signature.ts';
import { torrentLengthMaxBytes } from '../../swarm/torrent/torrent.ts';

interface Vectors {
  key: { name: string; seed: string; secretKey: string; publicKey: string };
  accepted: { what: string; text: string; signedText: string; signedBy: string }[];
  untrusted: { why: string; text: string }[];
  refused: { why: string; text: string }[];
}

const vectorsFile = new URL('../../docs/vectors/torrentinfo.json', import.meta.url);
const vectors = JSON.parse(readFileSync(vectorsFile, 'utf8')) as Vectors;
const secret = secretKeyFromSeed(vectors.key.name, Buffer.from(vectors.key.seed, 'hex'));
const otherSecret = secretKeyFromSeed('other-1', Buffer.alloc(32, 7));
const key = parsePublicKey(vectors.key.publicKey);

const digest = (bytes: number) => fc.uint8Array({ minLength: bytes, maxLength: bytes });
const size = fc.integer({ min: 1, max: torrentInfoSizeMaxBytes });

const unsignedInfo: fc.Arbitrary<Omit<TorrentInfo, 'sigs'>> = fc
  .record({
    fileHash: digest(32).map(sha256FromDigest),
    fileSize: size,
    compression: fc.constantFrom(...compressions),
    narHash: digest(32).map(sha256FromDigest),
    narSize: size,
    infoHash: digest(20).map(infoHashFromDigest),
    narInfoHash: digest(20).map(infoHashFromDigest),
  })
  .map((t) =>
    t.compression === 'none'
      ? { ...t, narHash: t.fileHash, narSize: t.fileSize, narInfoHash: t.infoHash }
      : t,
  );

t.test('the golden vectors are parsed, printed, signed and verified', async (t) => {
  t.equal(printPublicKey(publicKeyOf(secret)), vectors.key.publicKey);
  for (const { what, text, signedText, signedBy } of vectors.accepted) {
    const parsed = parseTorrentInfo(text);
    t.equal(torrentInfoText(parsed), signedText, what);
    t.equal(verifyTorrentInfo(parsed, [key]), signedBy, what);
    t.equal(verifyTorrentInfo(parsed, [publicKeyOf(otherSecret)]), undefined, what);
  }
  const [first] = vectors.accepted;
  if (first === undefined) throw new Error('no vector');
  const page = readFileSync(new URL('../../docs/format.md', import.meta.url), 'utf8');
  t.ok(page.includes(first.text) && page.includes(first.signedText), 'the page shows the first one');
  const { sigs, ...unsigned } = parseTorrentInfo(first.text);
  const signed = signTorrentInfo(unsigned, parseSecretKey(vectors.key.secretKey));
  t.strictSame(signed.sigs, sigs, 'Ed25519 signatures are deterministic');
  t.equal(printTorrentInfo(signed), first.text);
});

t.test('what nobody trusted signed is parsed and not verified', async (t) => {
  for (const { why, text } of vectors.untrusted)
    t.equal(verifyTorrentInfo(parseTorrentInfo(text), [key]), undefined, why);
});

t.test('each broken rule is refused, with the offset', async (t) => {
  for (const { why, text } of vectors.refused) {
    t.throws(() => parseTorrentInfo(text), { code: 'torrentinfo-corrupt', offset: Number }, why);
    t.throws(() => parseTorrentInfo(Buffer.from(text)), { code: 'torrentinfo-corrupt' }, why);
  }
  t.throws(() => parseTorrentInfo('FileHash: sha256:x\n'), { code: 'torrentinfo-corrupt', offset: 10 });
});

t.test('every torrentinfo survives being printed and parsed, and its signature holds', async (t) => {
  fc.assert(
    fc.property(unsignedInfo, (unsigned) => {
      const signed = signTorrentInfo(unsigned, secret);
      const text = printTorrentInfo(signed);
      const parsed = parseTorrentInfo(text);
      return printTorrentInfo(parsed) === text && verifyTorrentInfo(parsed, [key]) === secret.name;
    }),
  );
  t.equal(torrentInfoSizeMaxBytes, torrentLengthMaxBytes, 'sizes end where torrents do');
});

t.test('no byte of the signed values can change without the signature failing', async () => {
  fc.assert(
    fc.property(unsignedInfo, fc.nat(), fc.integer({ min: 1, max: 255 }), (unsigned, where, flip) => {
      const signed = signTorrentInfo(unsigned, secret);
      const bytes = Buffer.from(printTorrentInfo(signed));
      const at = where % bytes.length;
      bytes[at] = (bytes[at] ?? 0) ^ flip;
      try {
        const parsed = parseTorrentInfo(bytes);
        return (
          verifyTorrentInfo(parsed, [key]) === undefined ||
          torrentInfoText(parsed) === torrentInfoText(signed)
        );
      } catch (error) {
        return isNarswarmError(error, 'torrentinfo-corrupt');
      }
    }),
    { numRuns: 500 },
  );
});

t.test('arbitrary text never fails in another way', async () => {
  const line = fc.oneof(
    fc.constantFrom('FileHash: ', 'FileSize: 1', 'Sig: ', 'Compression: none', ':', ': ', '\n\n', '\u0000'),
    fc.string({ maxLength: 60, unit: 'binary' }),
  );
  fc.assert(
    fc.property(fc.array(line, { maxLength: 12 }), (lines) => {
      try {
        parseTorrentInfo(`${lines.join('\n')}\n`);
        return false;
      } catch (error) {
        return isNarswarmError(error, 'torrentinfo-corrupt');
      }
    }),
    { numRuns: 1000 },
  );
});

t.test('signatures may repeat, one for each key name, up to a limit', async (t) => {
  const [unsigned] = fc.sample(unsignedInfo, { seed: 1, numRuns: 1 });
  if (unsigned === undefined) throw new Error('no sample');
  const twice = signTorrentInfo(signTorrentInfo(signTorrentInfo(unsigned, secret), otherSecret), secret);
  t.equal(twice.sigs.length, 2);
  t.equal(verifyTorrentInfo(twice, [key]), secret.name);
  t.equal(verifyTorrentInfo(twice, [publicKeyOf(otherSecret)]), 'other-1');
  let many: TorrentInfo = { ...unsigned, sigs: [] };
  for (let i = 0; i < torrentInfoSigsMax; i++)
    many = signTorrentInfo(many, { ...otherSecret, name: `other-${i}` });
  t.ok(printTorrentInfo(many).length < torrentInfoMaxBytes);
  t.throws(() => signTorrentInfo(many, secret), { code: 'torrentinfo-corrupt' });
});

t.test('nothing is signed that a parser would refuse', async (t) => {
  const [unsigned] = fc.sample(unsignedInfo, { seed: 1, numRuns: 1 });
  if (unsigned === undefined) throw new Error('no sample');
  const wrong = { ...unsigned, compression: 'none', fileSize: 1, narSize: 2 } as const;
  t.throws(() => signTorrentInfo(wrong, secret), { code: 'torrentinfo-corrupt' });
  t.throws(() => signTorrentInfo({ ...unsigned, fileSize: 0 }, secret), { code: 'torrentinfo-corrupt' });
  t.equal(torrentInfoName(unsigned.fileHash), `${unsigned.fileHash}.torrentinfo`);
});
