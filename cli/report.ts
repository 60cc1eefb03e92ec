/** `narswarm report`, also `narswarm mirror report`: how many seeds the NAR files of a running seeder's or mirror's catalog have. */

import { NarswarmError } from '../nar/errors.ts';
import { seedsMax } from '../parts/availability.ts';
import { reportDaysMax, reportFormats, reportKinds } from '../parts/availability-report.ts';
import { defineCommand } from './command.ts';
import { summaryOf } from './commands.ts';
import { withDefault } from './flags.ts';
import { parseHttpUrl, seederHttpDefault } from './program-flags.ts';
import { parseChoice, parseCount } from './units.ts';

export const command = defineCommand({
  name: 'report',
  summary: summaryOf('report'),
  usage: '[URL]',
  positionals: { min: 0, max: 1 },
  flags: {
    seeds: withDefault({
      value: 'N',
      help: `so many independent seeds, from 1 to ${seedsMax}, make a NAR file safe to delete elsewhere`,
      parse: (text) => parseCount(text, 1, seedsMax),
      fallback: '3',
    }),
    days: withDefault({
      value: 'D',
      help: 'once it has had them for so many days',
      parse: (text) => parseCount(text, 0, reportDaysMax),
      fallback: '30',
    }),
    only: withDefault({
      value: 'KIND',
      help: `what is listed: ${reportKinds.join(', ')}`,
      parse: (text) => parseChoice(text, reportKinds),
      fallback: 'all',
    }),
    format: withDefault({
      value: 'FORMAT',
      help: `${reportFormats.join(', ')}; text is a summary, the others have a line for each NAR file`,
      parse: (text) => parseChoice(text, reportFormats),
      fallback: 'text',
    }),
  },
  notes: [
    `URL is that of the ready line of a seeder or mirror. Without one it is http://${seederHttpDefault}.`,
    'A mirror counts as a seed once a NAR file came from it when it was tried; several in one network count once.',
    'What is counted is that mirrors hold it, at every look since; whether they will stay, nobody can say.',
  ],
  examples: [
    'report http://127.0.0.1:8421',
    'report http://seeder.example:8421 --seeds 3 --days 90 --only safe --format csv',
  ],
  async run({ values, positionals: [text = `http://${seederHttpDefault}`], io }) {
    const { seeds, days, only, format } = values;
    const url = parseHttpUrl(text).replace(/\/+$/, '');
    const query = new URLSearchParams({ seeds: `${seeds}`, days: `${days}`, only, format });
    await printAnswer(`${url}/availability?${query}`, io.signal, io.out);
    return 0;
  },
});

/** Throws upstream-failed when nobody answers, or something else does. */
async function printAnswer(url: string, signal: AbortSignal, out: (text: string) => void): Promise<void> {
  let answer: Response;
  try {
    answer = await fetch(url, { signal });
  } catch (cause) {
    throw new NarswarmError('upstream-failed', `${url} does not answer; is the program running?`, { cause });
  }
  if (!answer.ok || answer.body === null) {
    await answer.body?.cancel();
    const why =
      answer.status === 503 ? 'is making another report; try again in a while' : `answered ${answer.status}`;
    throw new NarswarmError('upstream-failed', `${url} ${why}`);
  }
  try {
    for await (const text of answer.body.pipeThrough(new TextDecoderStream())) out(text);
  } catch (cause) {
    throw new NarswarmError('upstream-failed', `${url}: the report broke off`, { cause });
  }
}
