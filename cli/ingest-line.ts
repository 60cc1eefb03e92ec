/** How far a seeder is with reading its sources, as a line for people. */

import { printDuration, printSize } from './units.ts';

/** What the line needs of the progress. */
export interface ShownProgress {
  done: number;
  refused: number;
  bytesPerSecond: number;
  total?: number | undefined;
  secondsLeft?: number | undefined;
}

export function ingestLine(progress: ShownProgress): string {
  const { done, total, refused, bytesPerSecond, secondsLeft } = progress;
  const of = total === undefined ? '' : ` of ${total}`;
  const left = secondsLeft === undefined ? '' : `, ${printDuration(secondsLeft * 1000)} left`;
  return `read ${done}${of} narinfos, ${refused} refused, ${printSize(bytesPerSecond)}/s${left}`;
}
