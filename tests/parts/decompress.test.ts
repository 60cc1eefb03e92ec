import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { brotliCompressSync, gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import t from 'tap';
import type { Compression } from '../../nar/compression.ts';
import { isNarswarmError } from '../../nar/errors.ts';
import { decompress } from '../../parts/decompress.ts';
import { decodeIn, startXz } from '../../parts/xz.ts';
import { XzShell } from '../../parts/xz-shell.ts';
import { unxz, xzMemoryMaxBytes } from '../../upstream/xz.ts';
import { bzip2Sync, xzSync } from '../helpers/compress.ts';

type Decode = (input: AsyncIterable<Buffer>, expectedBytes: number) => AsyncIterable<Buffer>;

const by =
  (compression: Compression): Decode =>
  (input, expectedBytes) =>
    decompress(compression, input, { expectedBytes, maxBytes: 1e9 });

/** Every way in which something is decompressed, and how such a thing is made. */
const ways: Record<string, { decode: Decode; encode: (bytes: Buffer) => Buffer; members: boolean }> = {
  gzip: { decode: by('gzip'), encode: (bytes) => gzipSync(bytes), members: true },
  zstd: { decode: by('zstd'), encode: (bytes) => zstdCompressSync(bytes), members: true },
  br: { decode: by('br'), encode: (bytes) => brotliCompressSync(bytes), members: false },
  'xz in this process': { decode: (input) => unxz(input), encode: xzSync, members: true },
};
const probe = await startXz();
if (probe !== undefined) {
  probe.kill();
  ways['xz in its own process'] = {
    async *decode(input) {
      const child = await startXz();
      if (child !== undefined) yield* decodeIn(child, input);
    },
    encode: xzSync,
    members: true,
  };
}
const dir = await mkdtemp(join(tmpdir(), 'narswarm-decompress-'));
t.teardown(() => rm(dir, { recursive: true }));
/** With what a shell might take for something else. */
const path = join(dir, ` it's "$HOME" \\n*`);
function inFile(bytes: Buffer): string {
  writeFileSync(path, bytes);
  return path;
}
const shell = new XzShell();
t.teardown(() => shell.close());
if (await shell.open()) {
  ways['xz by a shell'] = {
    async *decode(input, expectedBytes) {
      const bytes = await collect(input);
      await shell.open();
      yield* shell.decode(inFile(bytes), expectedBytes);
    },
    encode: xzSync,
    members: true,
  };
}
const hasBzip2 = ((): boolean => {
  try {
    bzip2Sync(Buffer.from('x'));
    return true;
  } catch {
    return false;
  }
})();
if (hasBzip2) ways.bzip2 = { decode: by('bzip2'), encode: bzip2Sync, members: true };

async function* cut(bytes: Buffer, ...at: number[]): AsyncGenerator<Buffer> {
  // One buffer is filled again and again, as the file reader does.
  const buffer = Buffer.alloc(bytes.length);
  let from = 0;
  for (const to of [...at, bytes.length].sort((a, b) => a - b)) {
    if (to <= from || to > bytes.length) continue;
    buffer.fill(0xee);
    bytes.copy(buffer, 0, from, to);
    yield buffer.subarray(0, to - from);
    from = to;
  }
}

async function collect(chunks: AsyncIterable<Buffer>): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const chunk of chunks) all.push(Buffer.from(chunk));
  return Buffer.concat(all);
}

async function codeOf(chunks: AsyncIterable<Buffer>): Promise<string> {
  try {
    const bytes = await collect(chunks);
    return `${bytes.length} bytes`;
  } catch (error) {
    return isNarswarmError(error) ? error.code : String(error);
  }
}

const texts = [
  Buffer.alloc(0),
  Buffer.from('a'),
  Buffer.from('aaaabbbbccccaaaaaaaaa'.repeat(40)),
  randomBytes(100_000),
  Buffer.concat([Buffer.alloc(3_000_000, 7), randomBytes(200_000), Buffer.alloc(1_000_003)]),
];

for (const [name, { decode, encode, members }] of Object.entries(ways)) {
  t.test(name, async (t) => {
    t.test('what goes in comes out, however it is cut', async (t) => {
      for (const text of texts) {
        const bytes = encode(text);
        const cuts = bytes.length < 300 ? [...bytes.keys()] : [1, 13, 14, 999, 40_000];
        t.ok((await collect(decode(cut(bytes, ...cuts), text.length))).equals(text), `${text.length} bytes`);
        t.ok((await collect(decode(cut(bytes), text.length))).equals(text), 'in one piece');
      }
    });

    t.test('several streams are read as one, wherever their borders fall', { skip: !members }, async (t) => {
      const [a, b] = [Buffer.from('first'), randomBytes(5000)];
      const streams = [encode(a), encode(b), encode(a)];
      const all = Buffer.concat(streams);
      const whole = Buffer.concat([a, b, a]);
      const border = streams[0]?.length ?? 0;
      for (const at of [[], [border], [border - 1], [border + 1], [5, border + 3, all.length - 2]]) {
        t.ok((await collect(decode(cut(all, ...at), 5))).equals(whole), `cut at ${at}`);
      }
    });

    t.test('anything behind the end is refused', async (t) => {
      const bytes = encode(Buffer.from('hello hello hello'));
      for (const junk of [Buffer.from('x'), randomBytes(64), Buffer.alloc(9), bytes.subarray(0, 5)]) {
        const all = Buffer.concat([bytes, junk]);
        t.equal(await codeOf(decode(cut(all), 17)), 'decompression-failed', 'in the same chunk');
        t.equal(await codeOf(decode(cut(all, bytes.length), 17)), 'decompression-failed', 'in the next');
      }
    });

    t.test('cut short anywhere, and empty, it is refused', async (t) => {
      const bytes = encode(Buffer.from('hello hello hello, and something more'));
      for (let end = 0; end < bytes.length; end++) {
        const code = await codeOf(decode(cut(bytes.subarray(0, end)), 17));
        if (code !== 'decompression-failed') t.fail(`${code} after ${end} of ${bytes.length} bytes`);
      }
      const large = encode(texts[4] ?? Buffer.alloc(0));
      t.equal(
        await codeOf(decode(cut(large.subarray(0, large.length / 2), 70_000), 4e6)),
        'decompression-failed',
      );
    });

    t.test('hostile bytes give an error or bytes, never anything else', async (t) => {
      const bytes = encode(Buffer.from('the quick brown fox jumps over the lazy dog '.repeat(30)));
      const mutated = fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), {
        minLength: 1,
        maxLength: 4,
      });
      const runs = name.includes('own process') ? 20 : 300;
      await fc.assert(
        fc.asyncProperty(mutated, async (changes) => {
          const copy = Buffer.from(bytes);
          for (const [at, value] of changes) copy[at] = value;
          const code = await codeOf(decompressLimited(decode(cut(copy), 1320)));
          return code === 'decompression-failed' || code === 'Error: too much' || code.endsWith('bytes');
        }),
        { numRuns: runs },
      );
      t.pass();
    });

    t.test('what reading the input throws is thrown', async (t) => {
      async function* broken(): AsyncGenerator<Buffer> {
        yield encode(randomBytes(10_000)).subarray(0, 5000);
        throw new Error('the disk is gone');
      }
      await t.rejects(collect(decode(broken(), 10_000)), { message: 'the disk is gone' });
    });

    t.test('who stops early leaves nothing behind', async (t) => {
      for await (const _ of decode(cut(encode(texts[4] ?? Buffer.alloc(0)), 10_000), 4e6)) break;
      t.pass();
    });
  });
}

async function* decompressLimited(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let sizeBytes = 0;
  for await (const chunk of chunks) {
    sizeBytes += chunk.length;
    if (sizeBytes > 100_000) throw new Error('too much');
    yield chunk;
  }
}

t.test('a bomb stops at the limit', async (t) => {
  const encoders: Partial<Record<Compression, (bytes: Buffer) => Buffer>> = {
    xz: xzSync,
    zstd: (bytes) => zstdCompressSync(bytes),
    br: (bytes) => brotliCompressSync(bytes),
    gzip: (bytes) => gzipSync(bytes),
    ...(hasBzip2 ? { bzip2: bzip2Sync } : {}),
    none: (bytes) => bytes,
  };
  const zeros = Buffer.alloc(20_000_000);
  for (const compression of ['xz', 'zstd', 'br', 'gzip', 'bzip2', 'none'] as const) {
    const encode = encoders[compression];
    if (encode === undefined) continue;
    let sizeBytes = 0;
    const bytes = encode(zeros);
    await t.rejects(
      async () => {
        for await (const chunk of decompress(compression, cut(bytes, 100_000), {
          expectedBytes: 5_000_000,
          maxBytes: 5_000_000,
        })) {
          sizeBytes += chunk.length;
        }
      },
      { code: 'decompression-bomb' },
      compression,
    );
    t.ok(sizeBytes <= 5_000_000);
  }
});

t.test('an abort is noticed in the middle', async (t) => {
  const abort = new AbortController();
  const bytes = zstdCompressSync(Buffer.alloc(20_000_000));
  await t.rejects(
    async () => {
      for await (const _ of decompress('zstd', cut(bytes), {
        expectedBytes: 2e7,
        maxBytes: 2e7,
        signal: abort.signal,
      })) {
        abort.abort();
      }
    },
    { code: 'aborted' },
  );
});

t.test(
  'a dictionary that would take too much memory is refused',
  { skip: probe === undefined },
  async (t) => {
    const input = Buffer.from('small');
    const big = execFileSync('xz', ['-c', `--lzma2=dict=${xzMemoryMaxBytes}`], { input });
    t.equal(await codeOf(by('xz')(cut(big), 5)), 'decompression-failed');
    t.equal(await codeOf(by('xz')(cut(big), 5e6)), 'decompression-failed');
  },
);

t.test('an xz that somebody kills is no verdict on the file', { skip: probe === undefined }, async (t) => {
  const child = await startXz();
  if (child === undefined) return;
  async function* killing(): AsyncGenerator<Buffer> {
    child?.kill('SIGTERM');
    yield xzSync(Buffer.from('text'));
  }
  t.equal(await codeOf(decodeIn(child, killing())), 'verify-crashed');
});

t.test('one shell decompresses file after file', { skip: probe === undefined }, async (t) => {
  const shell = new XzShell();
  t.teardown(() => shell.close());
  const good = xzSync(randomBytes(300_000));
  // What `xz` writes is gathered from a size on.
  for (const expectedBytes of [300_000, 3_000_000]) {
    const decode = async (bytes: Buffer): Promise<string> => {
      await shell.open();
      return codeOf(shell.decode(inFile(bytes), expectedBytes));
    };
    t.equal(await decode(good), '300000 bytes');
    t.equal(await decode(xzSync(Buffer.alloc(0))), '0 bytes');
    t.equal(await decode(xzSync(Buffer.from('\n'.repeat(99)))), '99 bytes', 'what may begin the end of it');
    t.equal(await decode(Buffer.concat([good, Buffer.from('x')])), 'decompression-failed');
    t.equal(await decode(good), '300000 bytes', 'after one that was wrong');

    await shell.open();
    for await (const _ of shell.decode(inFile(good), expectedBytes)) break;
    t.equal(await decode(good), '300000 bytes', 'after one that was given up');

    await shell.open();
    t.equal(await codeOf(shell.decode(join(dir, 'nothing'), expectedBytes)), 'decompression-failed');
    t.equal(await decode(good), '300000 bytes', 'after one that is not there');
  }
});

t.test(
  'an xz, a shell or what gathers that somebody kills is no verdict on the file',
  {
    skip: probe === undefined,
  },
  async (t) => {
    const bytes = xzSync(Buffer.alloc(50_000_000));
    for (const program of ['xz', 'sh', 'dd']) {
      const shell = new XzShell();
      t.teardown(() => shell.close());
      await shell.open();
      const killing = async (): Promise<string> => {
        let killed = false;
        try {
          for await (const _ of shell.decode(inFile(bytes), 50_000_000)) {
            if (!killed) killBeside(program);
            killed = true;
          }
          return 'whole';
        } catch (error) {
          return isNarswarmError(error) ? error.code : String(error);
        }
      };
      t.equal(await killing(), 'verify-crashed', program);
    }
  },
);

/** Those of that name which a shell of ours has started, and the shell itself. */
function killBeside(program: string): void {
  const processes = execFileSync('ps', ['-eo', 'pid=,ppid=,pgid=,comm='], { encoding: 'utf8' })
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .map(([pid, parent, group, name]) => ({
      pid: Number(pid),
      parent: Number(parent),
      group: Number(group),
      name,
    }));
  // Those that lead a group: others are in that of the tests.
  const ours = processes.filter(({ pid, parent, group }) => parent === process.pid && group === pid);
  const groups = ours.map(({ group }) => group);
  for (const { pid, group, name } of processes) {
    if (name === program && groups.includes(group)) process.kill(pid, 'SIGKILL');
  }
}
