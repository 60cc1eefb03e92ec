/** What the doctor found, one thing each, and how it is shown. */

import { plainLine } from '../terminal.ts';

export type Level = 'ok' | 'warning' | 'problem';

export interface Finding {
  readonly level: Level;
  /** What was looked at, in a word or two. */
  readonly about: string;
  readonly text: string;
  /** What to do about it. */
  readonly advice?: string;
}

export function ok(about: string, text: string): Finding {
  return { level: 'ok', about, text };
}

export function warning(about: string, text: string, advice: string): Finding {
  return { level: 'warning', about, text, advice };
}

export function problem(about: string, text: string, advice: string): Finding {
  return { level: 'problem', about, text, advice };
}

/** Something that leaves this machine. */
export interface Leaving {
  /** Who gets it. */
  readonly to: string;
  readonly what: string;
}

const marks: Readonly<Record<Level, string>> = { ok: 'ok', warning: 'WARNING', problem: 'PROBLEM' };

export function printFindings(findings: readonly Finding[], leaving: readonly Leaving[]): string {
  const lines: string[] = [];
  for (const { level, about, text, advice } of findings) {
    lines.push(`${marks[level].padEnd(8)} ${about}: ${text}`);
    if (advice !== undefined) lines.push(`         → ${advice}`);
  }
  lines.push('', 'What leaves this machine:');
  for (const { to, what } of leaving) lines.push(`- To ${to}: ${what}`);
  const count = (level: Level): number => findings.filter((each) => each.level === level).length;
  const [problems, warnings] = [count('problem'), count('warning')];
  const all =
    problems + warnings === 0
      ? 'Nothing is wrong.'
      : `${number(problems, 'problem')}, ${number(warnings, 'warning')}.`;
  return `${lines.map(plainLine).join('\n')}\n\n${all}\n`;
}

function number(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}
