/** `narswarm why`: how a store path came. */

import { realpath } from 'node:fs/promises';
import { isNarswarmError, NarswarmError } from '../nar/errors.ts';
import { readText } from './answer.ts';
import { defineCommand } from './command.ts';
import { summaryOf } from './commands.ts';
import { toggle, withDefault } from './flags.ts';
import { clientHttpDefault, parseHttpUrl } from './program-flags.ts';
import { parseDuration } from './units.ts';
import { parseWhy } from './why-answer.ts';
import { whyText } from './why-text.ts';

/** Ten paths with five stories each of a few kilobytes. */
const answerMaxBytes = 4 * 1024 * 1024;

export const command = defineCommand({
  name: 'why',
  summary: summaryOf('why'),
  usage: 'STOREPATH|HASH|NAME',
  positionals: { min: 1, max: 1 },
  flags: {
    url: withDefault({
      value: 'URL',
      help: 'the client that is asked',
      parse: parseHttpUrl,
      fallback: `http://${clientHttpDefault}`,
    }),
    json: toggle('print the JSON as it came'),
    timeout: withDefault({ value: 'TIME', help: 'give up after', parse: parseDuration, fallback: '5s' }),
  },
  notes: [
    'STOREPATH is a path in the store or a link to one, such as a program of a profile; HASH the 32 characters in front of its name, or a FileHash; NAME the name with or without its version.',
    'A client knows what it fetched lately. What Nix had already, built itself or took from another substituter did not come through it.',
  ],
  examples: ['why /run/current-system/sw/bin/hello', 'why hello', 'why --json hello-2.12.1'],
  async run({ values, positionals: [what = ''], io }) {
    const word = await wordOf(what);
    const signal = AbortSignal.any([io.signal, AbortSignal.timeout(values.timeout)]);
    const json = await ask(`${values.url}/_narswarm/why/${encodeURIComponent(word)}`, signal);
    const answer = await parseWhy(json);
    io.out(values.json ? `${json.trimEnd()}\n` : whyText(answer, word, Date.now()));
    return 0;
  },
});

/** What of it the client knows a path by. */
async function wordOf(what: string): Promise<string> {
  const path = what.includes('/') ? await realpath(what).catch(() => what) : what;
  const inStore = /^\/(?:[^/]+\/)+?([0-9a-z]{32})-[^/]+(?:\/|$)/.exec(path);
  if (inStore?.[1] !== undefined) return inStore[1];
  if (path.startsWith('/')) {
    throw new NarswarmError(
      'config-invalid',
      `${path} is not in a store; write a store path, a hash or a name`,
    );
  }
  // `<hash>-<name>`, and `sha256:<hash>` as narinfos write it.
  return /^([0-9a-z]{32})-/.exec(path)?.[1] ?? path.replace(/^sha256:/, '');
}

/** Throws upstream-failed when nobody answers, or something else does. */
async function ask(url: string, signal: AbortSignal): Promise<string> {
  const { origin } = new URL(url);
  try {
    const answer = await fetch(url, { signal });
    if (answer.ok) return await readText(answer, answerMaxBytes);
    await answer.body?.cancel();
  } catch (cause) {
    const why = signal.aborted ? 'did not answer in time' : 'does not answer; is the client running?';
    if (!isNarswarmError(cause)) throw new NarswarmError('upstream-failed', `${origin} ${why}`, { cause });
  }
  throw new NarswarmError('upstream-failed', `${origin} answers, but it is no narswarm client`);
}
