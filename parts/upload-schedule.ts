/** The upload rate by the time of day and week: the schedule that was due last decides. */

import { lastDue, startSchedule } from './schedule.ts';

export interface ScheduledRate {
  /** Five or six fields, local time. */
  cron: string;
  /** From then on; `undefined` for no limit. */
  bytesPerSecond: number | undefined;
}

/** The rate at `now`; `otherwise` while none of the schedules was ever due. The later one in the list wins a tie. */
export function rateAt(
  schedules: readonly ScheduledRate[],
  otherwise: number | undefined,
  now: Date,
): number | undefined {
  let found: { due: Date; bytesPerSecond: number | undefined } | undefined;
  for (const { cron, bytesPerSecond } of schedules) {
    const due = lastDue(cron, now);
    if (due !== undefined && (found === undefined || due >= found.due)) found = { due, bytesPerSecond };
  }
  return found === undefined ? otherwise : found.bytesPerSecond;
}

/** Calls `setRate` whenever a schedule is due. Throws `config-invalid` for what is no cron expression. */
export function followSchedules(
  schedules: readonly ScheduledRate[],
  otherwise: number | undefined,
  setRate: (bytesPerSecond: number | undefined) => void,
): { stop(): void } {
  const tasks = schedules.map(({ cron }) =>
    startSchedule(cron, async () => setRate(rateAt(schedules, otherwise, new Date()))),
  );
  return {
    stop: () => {
      for (const task of tasks) task.stop();
    },
  };
}
