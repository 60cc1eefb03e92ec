/**
 * A path that takes time, in a process of its own, so that its work is done beside that of those who are measured:
 *
 *   slow-path-process.ts TARGET_PORT HOST PORT DELAY_MS
 */
import { openSlowPath } from '../../tests/helpers/slow-path.ts';
import { inputEnd } from './peer-process.ts';

const [target, host = '', port, delayMs] = process.argv.slice(2);
const path = await openSlowPath({
  target: { host: '127.0.0.1', port: Number(target) },
  listen: { host, port: Number(port) },
  delayMs: Number(delayMs),
});
console.log(JSON.stringify({ port: path.port }));
await inputEnd();
await path.close();
