/** `narswarm doctor`: what is wrong with this machine's setup, and what leaves the machine. */

import { defineCommand } from './command.ts';
import { summaryOf } from './commands.ts';
import { clientChecks } from './doctor/client-checks.ts';
import { fetchClientSetup } from './doctor/client-setup.ts';
import { type Finding, printFindings, problem } from './doctor/finding.ts';
import { leavingOf } from './doctor/leaving.ts';
import { nixChecks } from './doctor/nix-checks.ts';
import { readNixSetup } from './doctor/nix-setup.ts';
import { toggle, withDefault } from './flags.ts';
import { clientHttpDefault, parseHttpUrl } from './program-flags.ts';
import { parseDuration } from './units.ts';

export const command = defineCommand({
  name: 'doctor',
  summary: summaryOf('doctor'),
  usage: '[URL]',
  positionals: { min: 0, max: 1 },
  flags: {
    json: toggle('print the findings as JSON'),
    timeout: withDefault({
      value: 'TIME',
      help: 'give up on what does not answer after',
      parse: parseDuration,
      fallback: '5s',
    }),
  },
  notes: [
    `URL is that of the client, http://${clientHttpDefault} without one. Its upstreams and catalogs are asked whether they are there, and nothing else.`,
    'Whether others reach this machine from outside cannot be told from here.',
    'The exit status is 1 when there is a problem; warnings alone are none.',
  ],
  examples: ['doctor', 'doctor --json'],
  async run({ values, positionals: [text = `http://${clientHttpDefault}`], io }) {
    const url = parseHttpUrl(text);
    const signal = AbortSignal.any([io.signal, AbortSignal.timeout(values.timeout)]);
    const [asked, nix] = await Promise.all([fetchClientSetup(url, signal), readNixSetup(io.env)]);
    const setup = 'why' in asked ? undefined : asked;
    const isRoot = process.getuid?.() === 0;
    const ofClient: Finding[] =
      'why' in asked
        ? [problem('client', asked.why, 'start it: narswarm client; or name its URL: narswarm doctor URL')]
        : await clientChecks(asked, { url, signal, now: Date.now });
    const findings = [...ofClient, ...nixChecks(nix, url, setup, io.env, isRoot)];
    const leaving = leavingOf(setup, nix, url);
    const problems = findings.filter(({ level }) => level === 'problem').length;
    io.out(
      values.json
        ? `${JSON.stringify({ url, problems, findings, leaving }, undefined, 2)}\n`
        : printFindings(findings, leaving),
    );
    return problems > 0 ? 1 : 0;
  },
});
