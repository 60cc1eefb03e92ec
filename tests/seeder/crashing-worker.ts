/** A verifier that dies over files whose name says so, and answers for others by their name. */

import { basename } from 'node:path';
import { parentPort } from 'node:worker_threads';
import type { VerifyRequest } from '../../seeder/verify-worker.ts';

parentPort?.on('message', (request: VerifyRequest) => {
  if ('abort' in request) return;
  for (const { id, job } of request.jobs) {
    const name = basename('path' in job ? job.path : job.narInfoName);
    if (name === 'dies') process.exit(3);
    if (name === 'throws') throw new Error('out of its depth');
    parentPort?.postMessage({ id, refused: { code: 'nar-corrupt', message: name, offset: 7 } });
  }
});
