/** Verifies one file on a worker: `memory-child.ts PATH NAR-HASH NAR-SIZE COMPRESSION`. Prints how much the memory grew, in bytes. */

import { isCompression } from '../../nar/compression.ts';
import { isNarswarmError } from '../../nar/errors.ts';
import { parseSha256 } from '../../nar/hash.ts';
import { VerifyPool } from '../../seeder/verify-pool.ts';
import { makeNar, sha256 } from '../helpers/cache-builder.ts';

const [path = '', narHash = '', narSize = '', compression = ''] = process.argv.slice(2);
if (!isCompression(compression)) throw new Error('no compression');
const pool = new VerifyPool({ workers: 1 });
// The worker and what it imports are there before the measurement begins.
await pool
  .verify({ path: import.meta.filename, compression: 'none', narHash: sha256(makeNar('')), narSize: 112 })
  .catch(() => undefined);
const before = process.memoryUsage.rss();
let peak = before;
const timer = setInterval(() => {
  peak = Math.max(peak, process.memoryUsage.rss());
}, 5);
const end = await pool
  .verify({ path, compression, narHash: parseSha256(narHash), narSize: Number(narSize) })
  .then(() => 'verified')
  .catch((error: unknown) => (isNarswarmError(error) ? error.code : String(error)));
clearInterval(timer);
await pool.close();
console.log(JSON.stringify({ end, grownBytes: peak - before }));
