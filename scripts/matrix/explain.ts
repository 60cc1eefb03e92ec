/** What a client did in a cell, for whoever wants to know why it took so long: how each NAR file came, and what the client logged. */

import { setTimeout as sleep } from 'node:timers/promises';
import { parseWhy, type WhyLeg, type WhyStory } from '../../cli/why-answer.ts';
import { storeHashOf } from '../../nar/store-path.ts';
import type { Program } from '../../tests/helpers/program.ts';
import type { MatrixClosure } from './lab.ts';

const lingerMostMs = 5_000;
const pollMs = 100;

/** Events before the cell began are left out. Times are seconds after that. */
export interface CellStart {
  /** Milliseconds since 1970. */
  readonly atMs: number;
  /** Characters that the client had logged. */
  readonly logged: number;
}

export async function explain(
  client: Program,
  { built }: MatrixClosure,
  { atMs, logged }: CellStart,
): Promise<string[]> {
  const lines: string[] = [];
  await untilOver(client);
  for (const { storePath } of built) {
    const answer = await fetch(`${client.url}/_narswarm/why/${storeHashOf(storePath)}`);
    const { paths } = await parseWhy(await answer.text());
    for (const { stories, narInfoFrom, narInfoMs, sizeBytes } of paths) {
      const asked = narInfoMs === undefined ? 'never' : `after ${seconds(narInfoMs - atMs)}`;
      lines.push(`${storePath}, ${sizeBytes} bytes, narinfo from ${narInfoFrom}, given ${asked}`);
      const ofCell = stories.filter(({ startedMs }) => startedMs >= atMs).reverse();
      for (const story of ofCell) lines.push(...storyLines(story, atMs));
    }
  }
  for (const line of client.log().slice(logged).split('\n')) if (line !== '') lines.push(line);
  return lines;
}

/** A fetch that nobody waits for any more has a story a little later. */
async function untilOver(client: Program): Promise<void> {
  const deadlineMs = performance.now() + lingerMostMs;
  while (performance.now() < deadlineMs) {
    const { transfers } = (await client.status()) as { transfers: { running: unknown[] } };
    if (transfers.running.length === 0) return;
    await sleep(pollMs);
  }
}

function storyLines({ startedMs, tookMs, outcome, ahead, legs }: WhyStory, atMs: number): string[] {
  const [from, to] = [startedMs - atMs, startedMs - atMs + tookMs].map(seconds);
  return [`  ${from} to ${to} ${outcome}${ahead ? ' ahead' : ''}`, ...legs.map(legLine)];
}

function legLine(leg: WhyLeg): string {
  const { source, why, fromByte, startedMs, firstByteMs, endedMs, usedBytes, unusedBytes, end, error } = leg;
  const first = firstByteMs === undefined ? '' : ` first byte ${seconds(firstByteMs)}`;
  const times = `${seconds(startedMs)} to ${seconds(endedMs)}${first}`;
  return `    ${source} (${why}) ${times} at ${fromByte}: ${usedBytes}+${unusedBytes} ${end} ${error ?? ''}`;
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(2)} s`;
}
