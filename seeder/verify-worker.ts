/** A worker thread that reads narinfos and verifies NAR files, one after another, as the pool sends them. */

import { parentPort, workerData } from 'node:worker_threads';
import { signTorrentInfo } from '../catalog/torrentinfo.ts';
import { isNarswarmError } from '../nar/errors.ts';
import { parsePublicKey, parseSecretKey } from '../nar/signature.ts';
import { type VerifiedNarFile, type VerifyJob, verifyNarFile } from '../parts/verify.ts';
import { XzShell } from '../parts/xz-shell.ts';
import { runInBackground } from './background-thread.ts';
import { type NarInfoJob, type NarInfoRead, type RefusalWords, readNarInfo } from './scan-read.ts';

export type VerifyRequest = { jobs: { id: number; job: VerifyJob | NarInfoJob }[] } | { abort: number };

/** With the signatures of its torrentinfo; none when the pool has no key. */
export type SignedNarFile = VerifiedNarFile & { sigs: readonly string[] };

export type VerifyAnswer =
  | { id: number; verified: SignedNarFile }
  | { id: number; read: NarInfoRead }
  | { id: number; refused: RefusalWords }
  | { id: number; failed: string };

/** Keys as text: a key object costs more on the way between threads than to parse. */
export interface WorkerKeys {
  trustedKeys: readonly string[];
  secretKey: string | undefined;
}

const port = parentPort;
if (port === null) throw new Error('verify-worker.ts runs as a worker thread');
runInBackground();
const keys: WorkerKeys = workerData;
const trustedKeys = keys.trustedKeys.map(parsePublicKey);
const secretKey = keys.secretKey === undefined ? undefined : parseSecretKey(keys.secretKey);

/** It ends when this thread does, and its pipes with it. */
const xzShell = new XzShell();
/** Jobs that are not answered, to abort them. */
const aborts = new Map<number, AbortController>();
let last: Promise<void> = Promise.resolve();

port.on('message', (request: VerifyRequest) => {
  if ('abort' in request) {
    aborts.get(request.abort)?.abort();
    return;
  }
  for (const { id, job } of request.jobs) {
    const abort = new AbortController();
    aborts.set(id, abort);
    last = last.then(async () => {
      port.postMessage(await answer(id, job, abort.signal));
      aborts.delete(id);
    });
  }
});

async function answer(id: number, job: VerifyJob | NarInfoJob, signal: AbortSignal): Promise<VerifyAnswer> {
  try {
    if ('narInfoName' in job) return { id, read: readNarInfo(job, trustedKeys) };
    const verified = await verifyNarFile(job, { signal, xzShell });
    return { id, verified: { ...verified, sigs: signaturesOf(job, verified) } };
  } catch (error) {
    if (isNarswarmError(error)) {
      return { id, refused: { code: error.code, message: error.message, offset: error.offset } };
    }
    return { id, failed: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}

function signaturesOf(
  { compression, narHash, narSize }: VerifyJob,
  { fileHash, fileSize, file, nar }: VerifiedNarFile,
): readonly string[] {
  if (secretKey === undefined) return [];
  const hashes = { fileHash, narHash, infoHash: file.infoHash, narInfoHash: nar.infoHash };
  return signTorrentInfo({ ...hashes, fileSize, compression, narSize }, secretKey).sigs;
}
