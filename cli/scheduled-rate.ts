/** `--schedule CRON=RATE`. */

import { checkSchedule } from '../parts/schedule.ts';
import type { ScheduledRate } from '../parts/upload-schedule.ts';
import { usageError } from './command.ts';
import { parseRate, parseUploadRate } from './units.ts';

/** A schedule and the rate from then on; `leastBytes` is 0 where nothing at all makes sense. Throws config-invalid. */
export function parseScheduledRate(text: string, leastBytes: 0 | 1024): ScheduledRate {
  const at = text.lastIndexOf('=');
  const cron = text.slice(0, Math.max(at, 0)).trim();
  const rate = text.slice(at + 1).trim();
  if (at < 0) throw usageError(`${JSON.stringify(text)} is not CRON=RATE; write '0 8 * * 1-5=20MiB/s'`);
  checkSchedule(cron);
  if (rate === 'unlimited') return { cron, bytesPerSecond: undefined };
  if (rate === '0' && leastBytes === 0) return { cron, bytesPerSecond: 0 };
  const bytesPerSecond = leastBytes === 0 && parseRate(rate) === 0 ? 0 : parseUploadRate(rate);
  return { cron, bytesPerSecond };
}
