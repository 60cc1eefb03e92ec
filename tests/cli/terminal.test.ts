/** What programs and servers say is shown without harm, and read only so far. */

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import t from 'tap';
import { fetchClientSetup } from '../../cli/doctor/client-setup.ts';
import { printFindings, warning } from '../../cli/doctor/finding.ts';
import { statusTable } from '../../cli/status-table.ts';
import { plainLine, printMoment } from '../../cli/terminal.ts';
import type { WhyStory } from '../../cli/why-answer.ts';
import { whyText } from '../../cli/why-text.ts';
import { runCommand } from './run-command.ts';

const evil = 'a\u001b[2J\u009b31m\r\nProblem: none\u2028x\u202egnp.exe';
const harmful = /[^\P{Cc}\n]|\p{Zl}|\p{Bidi_Control}|^Problem/mu;

t.test('nothing that others say moves a terminal or makes up a line of its own', async (t) => {
  t.equal(plainLine('naïve – 32 KiB → ok'), 'naïve – 32 KiB → ok');
  t.notMatch(plainLine(evil), harmful);
  t.notMatch(printFindings([warning(evil, evil, evil)], [{ to: evil, what: evil }]), harmful);
  t.notMatch(
    statusTable({ role: evil, summary: [evil], [evil]: { [evil]: [evil, { [evil]: evil }] } }),
    harmful,
  );
  const leg = {
    source: evil,
    why: evil,
    fromByte: 0,
    startedMs: 0,
    endedMs: 1,
    usedBytes: 1,
    unusedBytes: 0,
  };
  const story: WhyStory = {
    ...{ startedMs: 0, tookMs: 1, outcome: 'fetched', ahead: true },
    legs: [{ ...leg, end: evil, error: evil, peers: [evil] }],
  };
  const path = {
    storeHash: evil,
    storePath: evil,
    narInfoFrom: evil,
    viewed: true,
    held: true,
    stories: [story],
  };
  const revoked = { reason: evil, timeMs: 0 };
  t.notMatch(whyText({ paths: [{ ...path, revoked }], more: true }, evil, 5), harmful);
  t.notMatch(whyText({ paths: [], more: false }, evil, 5), harmful);
});

t.test('times beyond all calendars are shown, too', async (t) => {
  t.equal(printMoment(0), '1970-01-01T00:00:00.000Z');
  t.match(statusTable({ role: 'x', atMs: 1e300 }), 'at no time');
  const story: WhyStory = { startedMs: 1e300, tookMs: 1, outcome: 'failed', ahead: false, legs: [] };
  const path = { storeHash: 'x', viewed: false, held: false, stories: [story] };
  t.match(whyText({ paths: [path], more: false }, 'x', 5), 'at no time');
});

t.test('an answer without an end is not read to its end', async (t) => {
  const server = createServer((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    const more = (): void => {
      while (response.write(Buffer.alloc(1 << 20, ' ')));
    };
    response.on('drain', more);
    more();
  });
  t.teardown(() => server.closeAllConnections());
  t.teardown(() => server.close());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  t.match(await fetchClientSetup(url, AbortSignal.timeout(60_000)), { why: /not as a client/ });
  const limits = ['--timeout', '60s'];
  t.match(await runCommand(['why', ...limits, '--url', url, 'x']), {
    status: 1,
    errors: /no narswarm client/,
  });
  t.match(await runCommand(['status', ...limits, url]), { status: 1, errors: /no narswarm program/ });
});
