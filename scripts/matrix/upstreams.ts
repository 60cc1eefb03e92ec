/** The upstream of a cell: a cache behind HTTP that is what its state says. */

import { readFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import { type Fault, openFaultServer } from '../../tests/helpers/fault-server.ts';
import { startNginx } from '../../tests/helpers/nginx.ts';
import { openSlowPath } from '../../tests/helpers/slow-path.ts';
import type { MatrixLab } from './lab.ts';
import type { UpstreamState } from './states.ts';

export interface MatrixUpstream {
  readonly url: string;
  close(): Promise<void>;
}

/** So slow that whoever waits for it is found out: a closure takes three seconds more than from a good source. */
export const slowBytesPerSecond = 2_000_000;
export const slowDelayMs = 20;
/** What a file of wrong length has too little or too much. */
const lengthOffBytes = 1_000;

interface Answer {
  fault: Fault;
  bytes: Buffer;
}

/** Of the NAR files, those with an even and an odd number are wrong in different ways. */
const narAnswers: Readonly<
  Record<Exclude<UpstreamState, 'good' | 'slow'>, (nar: Buffer, odd: boolean) => Answer>
> = {
  '404': (bytes) => ({ fault: 'status-404', bytes }),
  '500': (bytes) => ({ fault: 'status-500', bytes }),
  hanging: (bytes, odd) => ({ fault: odd ? 'hang-mid-body' : 'hang-before-headers', bytes }),
  'cut-mid-body': (bytes, odd) => ({ fault: odd ? 'cut-chunked' : 'cut-mid-body', bytes }),
  'wrong-bytes': (bytes) => ({ fault: 'file', bytes: spoilt(bytes) }),
  '200-for-range': (bytes, odd) => ({ fault: odd ? 'ignore-range-chunked' : 'ignore-range', bytes }),
  'wrong-length': (bytes, odd) => ({
    fault: 'file',
    bytes: odd ? Buffer.concat([bytes, Buffer.alloc(lengthOffBytes)]) : bytes.subarray(0, -lengthOffBytes),
  }),
  'redirect-loop': (bytes) => ({ fault: 'redirect-loop', bytes }),
  'other-compression': (bytes, odd) =>
    odd ? { fault: 'file', bytes: gzipSync(bytes, { level: 1 }) } : { fault: 'gzip', bytes },
};

/** What the whole cache is like: its nix-cache-info, and every second narinfo. The others are good, and only the NAR files fail. */
const wholeFaults: Partial<Record<UpstreamState, Fault>> = {
  '404': 'status-404',
  '500': 'status-500',
  hanging: 'hang-before-headers',
};

export async function openUpstream(lab: MatrixLab, state: UpstreamState): Promise<MatrixUpstream> {
  if (state === 'good') {
    const nginx = await startNginx(lab.cache.directory);
    return { url: nginx.url, close: () => nginx.stop() };
  }
  if (state === 'slow') {
    const path = await openSlowPath({
      target: { host: '127.0.0.1', port: lab.nginx.port },
      delayMs: slowDelayMs,
      bytesPerSecond: slowBytesPerSecond,
    });
    return { url: `http://127.0.0.1:${path.port}`, close: () => path.close() };
  }
  const files = await answersOf(lab, state);
  const server = await openFaultServer({ bytes: Buffer.alloc(0), find: (path) => files.get(path) });
  return { url: server.url, close: () => server.close() };
}

async function answersOf(
  lab: MatrixLab,
  state: Exclude<UpstreamState, 'good' | 'slow'>,
): Promise<Map<string, Answer>> {
  const answers = new Map<string, Answer>();
  const whole = wholeFaults[state];
  const cacheInfo = await readFile(lab.cache.path('nix-cache-info'));
  answers.set('/nix-cache-info', { fault: whole ?? 'file', bytes: cacheInfo });
  for (const { built } of lab.closures.values()) {
    for (const [index, { narInfo, narInfoName, narFile }] of built.entries()) {
      const odd = index % 2 === 1;
      const fault = odd ? 'file' : (whole ?? 'file');
      answers.set(`/${narInfoName}`, { fault, bytes: Buffer.from(narInfo.text) });
      answers.set(`/${narInfo.url}`, narAnswers[state](narFile, odd));
    }
  }
  return answers;
}

function spoilt(bytes: Buffer): Buffer {
  const wrong = Buffer.from(bytes);
  const middle = wrong.length >> 1;
  wrong[middle] = ~(wrong[middle] ?? 0);
  return wrong;
}
