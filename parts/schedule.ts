/** Runs a job on a cron schedule, never twice at once, and tells when one was due last. */

import { createTask, parse, schedule, validate } from 'node-cron';
import { NarswarmError } from '../nar/errors.ts';

export interface Schedule {
  stop(): void;
}

/** How far back it is looked when a schedule was due: a year and the day that some have more. */
const lookBackDays = 366;

/** `expression`: five or six fields, local time. Throws `config-invalid`. */
export function startSchedule(expression: string, job: () => Promise<void>): Schedule {
  checkSchedule(expression);
  const task = schedule(expression, job, { noOverlap: true });
  return { stop: () => void task.destroy() };
}

/** Throws `config-invalid` for what is no cron expression. */
export function checkSchedule(expression: string): void {
  if (validate(expression)) return;
  throw new NarswarmError('config-invalid', `${JSON.stringify(expression)} is no cron expression`);
}

/**
 * When the schedule was last due, by local time and at `now` at the latest; `undefined` when it was not within a year. Days that do
 * not match are passed over as a whole, so that it takes milliseconds.
 */
export function lastDue(expression: string, now: Date): Date | undefined {
  checkSchedule(expression);
  const descending = (values: number[]): number[] => values.toSorted((a, b) => b - a);
  const fields = parse(expression);
  const [hours, minutes, seconds] = [fields.hour, fields.minute, fields.second].map(descending);
  const task = createTask(expression, () => {});
  try {
    for (let back = 0; back <= lookBackDays; back++) {
      const at = (hour = 0, minute = 0, second = 0): Date =>
        new Date(now.getFullYear(), now.getMonth(), now.getDate() - back, hour, minute, second);
      if (!task.match(at(hours?.[0], minutes?.[0], seconds?.[0]))) continue;
      for (const hour of hours ?? []) {
        for (const minute of minutes ?? []) {
          for (const second of seconds ?? []) {
            const due = at(hour, minute, second);
            // Where the clocks are put forward, an hour is missing: that time does not match itself.
            if (due <= now && task.match(due)) return due;
          }
        }
      }
    }
    return undefined;
  } finally {
    void task.destroy();
  }
}
