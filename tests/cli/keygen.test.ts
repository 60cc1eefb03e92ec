import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { readPublicKeys, readSecretKey } from '../../cli/key-flags.ts';
import {
  parsePublicKey,
  parseSecretKey,
  printPublicKey,
  sign,
  verifySignature,
} from '../../nar/signature.ts';
import { runCommand } from './run-command.ts';

t.test('a key pair signs and verifies, and its secret is for its owner alone', async (t) => {
  const dir = join(t.testdir(), 'keys');
  const { status, out } = await runCommand(['keygen', 'cache.example-1', '--out', dir]);
  t.equal(status, 0);
  const secretFile = join(dir, 'cache.example-1.secret');
  const publicText = await readFile(join(dir, 'cache.example-1.public'), 'utf8');
  t.equal(out, publicText, 'standard output is the public key');
  t.equal((await stat(secretFile)).mode & 0o777, 0o600);
  const secret = parseSecretKey(await readFile(secretFile, 'utf8'));
  const key = parsePublicKey(publicText);
  t.equal(verifySignature([key], 'text', sign(secret, 'text')), 'cache.example-1');
  t.same(readPublicKeys(`@${dir}/cache.example-1.public`).map(printPublicKey), [publicText.trim()]);
  t.same(readPublicKeys(`${dir}/cache.example-1.public`).map(printPublicKey), [publicText.trim()]);
  t.same(readPublicKeys(publicText.trim()).map(printPublicKey), [publicText.trim()]);
  t.equal(readSecretKey(secretFile).name, 'cache.example-1');
  t.throws(() => readSecretKey(join(dir, 'cache.example-1.public')), { code: 'config-invalid' });
});

t.test('a key that exists is never overwritten, neither half', async (t) => {
  const dir = t.testdir();
  await runCommand(['keygen', 'a', '--out', dir]);
  const before = await readFile(join(dir, 'a.secret'), 'utf8');
  const again = await runCommand(['keygen', 'a', '--out', dir]);
  t.equal(again.status, 1);
  t.match(again.errors, /never overwritten/);
  t.equal(await readFile(join(dir, 'a.secret'), 'utf8'), before);
  await writeFile(join(dir, 'b.public'), 'mine');
  t.equal((await runCommand(['keygen', 'b', '--out', dir])).status, 1);
  await t.rejects(stat(join(dir, 'b.secret')), 'no half pair is left');
});

t.test('names that no file or configuration could hold are refused', async (t) => {
  for (const name of ['a:b', 'a/b', '../a', 'a b', '.hidden', '']) {
    const { status, errors } = await runCommand(['keygen', name, '--out', t.testdirName]);
    t.equal(status, 2, name);
    t.match(errors, /is not a key name; write/);
  }
});

t.test('keys that are neither keys nor files say so', async (t) => {
  t.throws(() => readPublicKeys('nonsense'), { code: 'config-invalid', message: /neither a public key/ });
  t.throws(() => readPublicKeys('@/no/such/file'), { code: 'config-invalid', message: /cannot read/ });
  const empty = join(t.testdir({ empty: '\n' }), 'empty');
  t.throws(() => readPublicKeys(empty), { code: 'config-invalid' });
});
