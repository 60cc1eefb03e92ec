/** How a store path came, in words. */

import { legReasons } from '../client/story.ts';
import { plainLine, printMoment } from './terminal.ts';
import { printDuration, printRate, printSize } from './units.ts';
import type { Why, WhyLeg, WhyPath, WhyStory } from './why-answer.ts';

const ends: Readonly<Record<string, string>> = {
  finished: 'it gave the last byte',
  beaten: 'another source was faster',
  failed: 'it failed',
  absent: 'it does not have the file',
  stopped: 'nobody wanted the file any more',
};

/** `word`: what was asked for. */
export function whyText({ paths, more }: Why, word: string, nowMs: number): string {
  if (paths.length === 0) return `${plainLine(`Nothing was fetched lately that is named ${word}.`)}\n`;
  const texts = paths.map((path) => `${pathLines(path, nowMs).map(plainLine).join('\n')}\n`);
  return `${texts.join('\n')}${more ? '\nThere are more of that name: write a store path for another one.\n' : ''}`;
}

function pathLines(path: WhyPath, nowMs: number): string[] {
  const { storePath, storeHash, stories } = path;
  const [last, ...before] = stories;
  const lines = [storePath ?? storeHash];
  if (last !== undefined) lines.push(...storyLines(last, nowMs));
  else if (path.held) lines.push('Its NAR file is kept here; how it came is forgotten.');
  else if (path.narInfoFrom !== undefined)
    lines.push(
      'Nix asked for its narinfo, and not for the NAR file: it had the path, or took it from elsewhere.',
    );
  else lines.push('Nix has not asked this client for it, or so long ago that it is forgotten.');
  lines.push(...stateLines(path, last));
  if (before.length > 0) lines.push('Before that:');
  for (const story of before) lines.push(`  ${headline(story, nowMs)}`);
  return lines;
}

function stateLines(path: WhyPath, last: WhyStory | undefined): string[] {
  const { held, sizeBytes, narInfoFrom, narInfoMs, viewed, revoked } = path;
  const lines: string[] = [];
  if (narInfoFrom !== undefined) {
    const when = narInfoMs === undefined ? '' : `, ${moment(narInfoMs)}`;
    lines.push(`Its narinfo is that of ${narInfoFrom}${when}.`);
  }
  if (viewed)
    lines.push('Its narinfo is in a view of a catalog that is held here, and answered without the network.');
  if (held) {
    const size = sizeBytes === undefined ? '' : ` (${printSize(sizeBytes)})`;
    const since = last?.outcome === 'fetched' ? ` since ${moment(last.startedMs + last.tookMs)}` : '';
    lines.push(`Its NAR file${size} is held${since}: Nix gets it from here.`);
  } else if (last?.outcome === 'fetched') lines.push('Its NAR file is not held any more.');
  if (revoked !== undefined)
    lines.push(`REVOKED ${moment(revoked.timeMs)}: ${revoked.reason}. It is not given out any more.`);
  return lines;
}

function storyLines(story: WhyStory, nowMs: number): string[] {
  const lines = [headline(story, nowMs)];
  const compared = against(story);
  if (compared !== undefined) lines.push(compared);
  if (story.ahead) lines.push('It was fetched before Nix asked for it.');
  if (story.legs.length > 0) lines.push('What was tried, in this order:');
  for (const leg of story.legs) lines.push(...legLines(leg));
  return lines;
}

function headline({ sizeBytes, startedMs, tookMs, outcome, legs }: WhyStory, nowMs: number): string {
  const ago = `${printDuration(Math.max(0, nowMs - startedMs - tookMs))} ago (${moment(startedMs)})`;
  const took = printDuration(tookMs);
  if (outcome === 'stopped') return `Given up ${ago} after ${took}: nobody wanted it any more.`;
  if (outcome !== 'fetched') return `NOT fetched ${ago}: every source failed within ${took}.`;
  const givers = legs.filter(({ usedBytes }) => usedBytes > 0);
  const from = [...new Set(givers.map(({ source }) => nameOf(source)))].join(' and ');
  const bytes = sizeBytes ?? givers.reduce((sum, { usedBytes }) => sum + usedBytes, 0);
  const rate = tookMs > 0 ? `, ${printRate((bytes * 1000) / tookMs)}` : '';
  return `Fetched ${ago}${from === '' ? '' : ` from ${from}`}: ${printSize(bytes)} in ${took}${rate}.`;
}

function against({ tookMs, httpMs, outcome, legs }: WhyStory): string | undefined {
  if (httpMs === undefined || outcome !== 'fetched') return undefined;
  if (!legs.some(({ source, usedBytes }) => usedBytes > 0 && isPeers(source)))
    return 'All of it came over HTTP.';
  const saved = httpMs - tookMs;
  const alone = `HTTP alone would have taken about ${printDuration(httpMs)}`;
  return saved >= 0
    ? `${alone}: ${printDuration(saved)} were saved.`
    : `${alone}: ${printDuration(-saved)} were lost.`;
}

function legLines(leg: WhyLeg): string[] {
  const { source, startedMs, endedMs, firstByteMs, fromByte, usedBytes, unusedBytes, end, error, peers } =
    leg;
  const reason: string = Object.hasOwn(legReasons, leg.why)
    ? legReasons[leg.why as keyof typeof legReasons]
    : leg.why;
  const start = startedMs < 1 ? 'at once' : `after ${printDuration(startedMs)}`;
  const from = fromByte > 0 ? `, from byte ${fromByte.toLocaleString('en-US')} on` : '';
  const first = firstByteMs === undefined ? 'no byte' : `first byte after ${printDuration(firstByteMs)}`;
  const unused = unusedBytes > 0 ? ` and ${printSize(unusedBytes)} that others had given` : '';
  const why = error === undefined ? (ends[end] ?? end) : `${ends[end] ?? end}: ${error}`;
  const who = peers === undefined || peers.length === 0 ? [] : [`    from ${peers.join(', ')}`];
  return [
    `  ${nameOf(source)}, asked ${start}${from}. ${reason}`,
    `    ${first}, ${printSize(usedBytes)} used${unused}; ended after ${printDuration(endedMs)}: ${why}`,
    ...who,
  ];
}

function isPeers(source: string): boolean {
  return source === 'swarm' || source === 'pack';
}

function nameOf(source: string): string {
  if (source === 'swarm') return 'the swarm';
  return source === 'pack' ? 'a pack' : source;
}

function moment(ms: number): string {
  return printMoment(ms).replace(/T(.{8}).*/, ' $1 UTC');
}
