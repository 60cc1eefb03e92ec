/** Lists of store paths, from files and servers, plain and in xz. */

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import lzma from 'lzma-native';
import t, { type Test } from 'tap';
import { readStorePaths, storePathLineMaxBytes } from '../../upstream/store-paths.ts';
import { openFaultServer } from '../helpers/fault-server.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';

const { signal } = new AbortController();
const limits = { headersTimeoutMs: 600, bodyStallMs: 600, drainMs: 100 };

const paths = Array.from({ length: 5_000 }, (_, index) => {
  return `/nix/store/${String(index).padStart(32, '0')}-package-${index}`;
});
const text = Buffer.from(`\n${paths.join('\n')}\n\n`);

async function xz(bytes: Buffer): Promise<Buffer> {
  return await new Promise((resolve) => lzma.compress(bytes, {}, resolve));
}

async function fileOf(t: Test, bytes: Buffer | string): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'narswarm-paths-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  const file = join(directory, 'store-paths');
  await writeFile(file, bytes);
  return file;
}

async function all(source: AsyncIterable<string>): Promise<string[]> {
  const found: string[] = [];
  for await (const path of source) found.push(path);
  return found;
}

t.test('files and file URLs, plain and in xz, give the same paths', async (t) => {
  provesNothingStaysOpen(t);
  const plain = await fileOf(t, text);
  const packed = await fileOf(t, await xz(text));
  for (const from of [plain, packed, pathToFileURL(plain).href, pathToFileURL(packed).href]) {
    t.same(await all(readStorePaths(from, { signal })), paths);
  }
});

t.test('servers give them as well, also by a redirect', async (t) => {
  provesNothingStaysOpen(t);
  for (const bytes of [text, await xz(text)]) {
    const server = await openFaultServer({ bytes });
    t.same(await all(readStorePaths(server.path('file'), { signal })), paths);
    t.same(await all(readStorePaths(server.path('redirect-to-file'), { signal })), paths);
    await server.close();
  }
});

t.test('a server that breaks is an error, never a shorter list', async (t) => {
  provesNothingStaysOpen(t);
  for (const bytes of [text, await xz(text)]) {
    const server = await openFaultServer({ bytes });
    for (const fault of [
      'cut-mid-body',
      'hang-mid-body',
      'status-404',
      'status-500',
      'redirect-loop',
    ] as const) {
      await t.rejects(
        all(readStorePaths(server.path(fault), { signal, limits })),
        { code: 'upstream-failed' },
        fault,
      );
    }
    await server.close();
  }
});

t.test('the last line needs no end, and lines may end as on Windows', async (t) => {
  provesNothingStaysOpen(t);
  const file = await fileOf(t, `${paths[0]}\r\n \t\r\n${paths[1]}`);
  t.same(await all(readStorePaths(file, { signal })), paths.slice(0, 2));
  t.same(await all(readStorePaths(await fileOf(t, ''), { signal })), []);
});

t.test('a bad line is named by its number', async (t) => {
  provesNothingStaysOpen(t);
  const file = await fileOf(t, `${paths[0]}\n\n/nix/store/too-short\n`);
  await t.rejects(all(readStorePaths(file, { signal })), { code: 'store-path-invalid', message: /line 3/ });
});

t.test('a line without end is given up', async (t) => {
  provesNothingStaysOpen(t);
  const file = await fileOf(t, Buffer.alloc(storePathLineMaxBytes + 1, 'a'));
  await t.rejects(all(readStorePaths(file, { signal })), {
    code: 'store-path-invalid',
    message: /more than/,
  });
  const server = await openFaultServer({ bytes: text });
  await t.rejects(all(readStorePaths(server.path('huge'), { signal, limits })), {
    code: 'store-path-invalid',
  });
  await server.close();
  const packed = await fileOf(t, await xz(Buffer.alloc(8 << 20)));
  await t.rejects(all(readStorePaths(packed, { signal })), { code: 'store-path-invalid' });
});

t.test('xz that is cut short or corrupt is an error, never a shorter list', async (t) => {
  provesNothingStaysOpen(t);
  const packed = await xz(text);
  for (const length of [packed.length - 1, packed.length >> 1, 20, 6]) {
    const file = await fileOf(t, packed.subarray(0, length));
    await t.rejects(
      all(readStorePaths(file, { signal })),
      { code: 'decompression-failed' },
      `${length} bytes`,
    );
  }
  const corrupt = Buffer.from(packed);
  corrupt.writeUInt32LE(0xdeadbeef, packed.length >> 1);
  await t.rejects(all(readStorePaths(await fileOf(t, corrupt), { signal })), {
    code: 'decompression-failed',
  });
});

t.test('a reader may stop early', async (t) => {
  provesNothingStaysOpen(t);
  const server = await openFaultServer({ bytes: await xz(text) });
  for (const from of [await fileOf(t, text), await fileOf(t, await xz(text)), server.path('file')]) {
    for await (const path of readStorePaths(from, { signal })) {
      t.equal(path, paths[0]);
      break;
    }
  }
  await server.close();
});

t.test('a missing file, and an abort, are told apart', async (t) => {
  provesNothingStaysOpen(t);
  await t.rejects(all(readStorePaths('/nonexistent/store-paths', { signal })), { code: 'config-invalid' });
  const file = await fileOf(t, text);
  await t.rejects(all(readStorePaths(file, { signal: AbortSignal.abort() })), { code: 'aborted' });
});
