/** `narswarm status`: asks a running program what it does. */

import { isNarswarmError, NarswarmError } from '../nar/errors.ts';
import { readText } from './answer.ts';
import { defineCommand } from './command.ts';
import { summaryOf } from './commands.ts';
import { toggle, withDefault } from './flags.ts';
import { clientHttpDefault, parseHttpUrl } from './program-flags.ts';
import { statusTable } from './status-table.ts';
import { parseDuration } from './units.ts';

/** A status is a few kilobytes; an answer longer than this comes from something else. */
const statusMaxBytes = 4 * 1024 * 1024;

/** A client's place first: a client passes `/status` on to nobody, but a seeder answers 404 at the client's place. */
const statusPaths = ['/_narswarm/status', '/status'];

export const command = defineCommand({
  name: 'status',
  summary: summaryOf('status'),
  usage: '[URL]',
  positionals: { min: 0, max: 1 },
  flags: {
    json: toggle('print the JSON as it came'),
    timeout: withDefault({ value: 'TIME', help: 'give up after', parse: parseDuration, fallback: '5s' }),
  },
  notes: [
    `URL is that of the ready line. Without one it is http://${clientHttpDefault}, where a client usually listens.`,
  ],
  examples: ['status', 'status http://127.0.0.1:8421 --json'],
  async run({ values, positionals: [text = `http://${clientHttpDefault}`], io }) {
    const url = parseHttpUrl(text).replace(/(\/_narswarm)?(\/status)?$/, '');
    const json = await fetchStatus(url, AbortSignal.any([io.signal, AbortSignal.timeout(values.timeout)]));
    io.out(values.json ? `${json.trimEnd()}\n` : statusTable(parseStatus(url, json)));
    return 0;
  },
});

/** Throws upstream-failed when nobody answers, or something else does. */
async function fetchStatus(url: string, signal: AbortSignal): Promise<string> {
  for (const path of statusPaths) {
    const answer = await ask(`${url}${path}`, signal);
    if (answer !== undefined) return answer;
  }
  throw new NarswarmError('upstream-failed', `${url} answers, but it is no narswarm program`);
}

async function ask(url: string, signal: AbortSignal): Promise<string | undefined> {
  try {
    const answer = await fetch(url, { signal, headers: { accept: 'application/json' } });
    const json = answer.headers.get('content-type')?.includes('json') === true;
    if (!answer.ok || !json || answer.body === null) {
      await answer.body?.cancel();
      return undefined;
    }
    return await readText(answer, statusMaxBytes);
  } catch (cause) {
    if (isNarswarmError(cause)) return undefined;
    const why = signal.aborted ? 'did not answer in time' : 'does not answer; is the program running?';
    throw new NarswarmError('upstream-failed', `${url} ${why}`, { cause });
  }
}

function parseStatus(url: string, json: string): object {
  try {
    const status: unknown = JSON.parse(json);
    if (typeof status === 'object' && status !== null && 'role' in status) return status;
  } catch {
    // Said below.
  }
  throw new NarswarmError('upstream-failed', `${url} answers, but not with a status`);
}
