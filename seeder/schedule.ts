/** Runs a job on a cron schedule, never twice at once. */

import { schedule, validate } from 'node-cron';
import { NarswarmError } from '../nar/errors.ts';

export interface Schedule {
  stop(): void;
}

/** `expression`: five or six fields, local time. Throws `config-invalid`. */
export function startSchedule(expression: string, job: () => Promise<void>): Schedule {
  if (!validate(expression)) {
    throw new NarswarmError('config-invalid', `${JSON.stringify(expression)} is no cron expression`);
  }
  const task = schedule(expression, job, { noOverlap: true });
  return { stop: () => void task.destroy() };
}
