/** What a process has used, as Linux tells it. */
import { readFileSync, writeFileSync } from 'node:fs';

/** Of the kernel's CPU accounting: USER_HZ is 100 on every Linux. */
const ticksPerSecond = 100;

/** CPU seconds of all its threads; 0 where the system does not tell. */
export function cpuSecondsOf(pid: number | undefined): number {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
  } catch {
    return 0;
  }
}

/** Bytes that are resident now, and the most that were since `forgetPeak`. */
export function memoryOf(pid: number | undefined): { residentBytes: number; peakBytes: number } {
  const text = readFileSync(`/proc/${pid}/status`, 'latin1');
  const of = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1]) * 1024;
  return { residentBytes: of('VmRSS'), peakBytes: of('VmHWM') };
}

/** From now on the peak is that of what follows. */
export function forgetPeak(pid: number | undefined): void {
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
}
