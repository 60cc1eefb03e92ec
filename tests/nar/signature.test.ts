import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import {
  keyNameMaxCharacters,
  parsePublicKey,
  parseSecretKey,
  printPublicKey,
  printSecretKey,
  publicKeyOf,
  secretKeyFromSeed,
  sign,
  verifySignature,
} from '../../nar/signature.ts';
import { nixMissing } from '../helpers/nix.ts';

const secret = secretKeyFromSeed('test-1', Buffer.alloc(32, 1));
const invalid = { code: 'key-invalid' };

t.test('keys read back as they print', async (t) => {
  t.equal(printSecretKey(parseSecretKey(printSecretKey(secret))), printSecretKey(secret));
  const key = publicKeyOf(secret);
  t.equal(printPublicKey(parsePublicKey(`${printPublicKey(key)}\n`)), printPublicKey(key));
});

t.test('the keys that Nix makes are keys', { skip: nixMissing() }, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'narswarm-keys-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const files = [join(dir, 'secret'), join(dir, 'public')] as const;
  execFileSync('nix-store', ['--generate-binary-cache-key', 'nix-1', ...files], {
    env: { ...process.env, HOME: dir },
  });
  const made = parseSecretKey(readFileSync(files[0], 'utf8'));
  t.equal(printPublicKey(publicKeyOf(made)), readFileSync(files[1], 'utf8').trim());
});

t.test('only the key that signed verifies, and only that text', async (t) => {
  const other = secretKeyFromSeed('test-1', Buffer.alloc(32, 2)).publicKey;
  const renamed = secretKeyFromSeed('test-2', Buffer.alloc(32, 1)).publicKey;
  const sig = sign(secret, 'text');
  t.equal(verifySignature([other, renamed, secret.publicKey], 'text', sig), 'test-1');
  t.equal(verifySignature([other], 'text', sig), undefined, 'another key of that name');
  t.equal(verifySignature([renamed], 'text', sig), undefined, 'the same key under another name');
  t.equal(verifySignature([secret.publicKey], 'texT', sig), undefined, 'another text');
  for (const bad of [
    '',
    'test-1',
    'test-1:',
    ':AAAA',
    `${sig}=`,
    sig.slice(0, -4),
    `test-1:${'!'.repeat(88)}`,
  ]) {
    t.equal(verifySignature([secret.publicKey], 'text', bad), undefined, JSON.stringify(bad));
  }
});

t.test('what is no key is refused', async (t) => {
  const printed = printSecretKey(secret);
  const bytes = Buffer.from(printed.slice('test-1:'.length), 'base64');
  bytes[63] = (bytes[63] ?? 0) ^ 1;
  t.throws(
    () => parseSecretKey(`test-1:${bytes.toString('base64')}`),
    invalid,
    'halves that do not belong together',
  );
  t.throws(() => parsePublicKey(printed), invalid, 'a secret key for a public one');
  t.throws(() => parsePublicKey('nocolon'), invalid);
  t.throws(() => parsePublicKey(`:${bytes.toString('base64')}`), invalid, 'no name');
  t.throws(() => secretKeyFromSeed('with space', Buffer.alloc(32)), invalid);
  t.throws(() => secretKeyFromSeed('x'.repeat(keyNameMaxCharacters + 1), Buffer.alloc(32)), invalid);
  t.throws(() => secretKeyFromSeed('x', Buffer.alloc(31)), invalid);
});
