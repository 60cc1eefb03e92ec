/** What is wrong with a running client, and with whom it talks to. */

import { statfs } from 'node:fs/promises';
import { connect, isIP } from 'node:net';
import { parseHead, verifyHead } from '../../catalog/head.ts';
import { NarswarmError } from '../../nar/errors.ts';
import { parsePublicKey } from '../../nar/signature.ts';
import { HttpCatalog } from '../../upstream/http-catalog.ts';
import { isPublicAddress } from '../../upstream/public-address.ts';
import { printDuration, printSize } from '../units.ts';
import type { ClientSetup } from './client-setup.ts';
import { type Finding, ok, problem, warning } from './finding.ts';

/** Signatures, certificates and heads go by the clock; a difference of minutes is that of a machine that nobody sets. */
const clockMaxMs = 5 * 60_000;
/** A connection on this machine takes a millisecond. */
const connectMs = 2_000;

export interface CheckOptions {
  url: string;
  signal: AbortSignal;
  /** Milliseconds since 1970. */
  now: () => number;
}

export async function clientChecks(setup: ClientSetup, options: CheckOptions): Promise<Finding[]> {
  const groups = await Promise.all([
    [placeCheck(options.url)],
    ...setup.upstreams.map((upstream) => upstreamChecks(upstream, setup, options)),
    ...setup.catalogs.map((catalog) => catalogChecks(catalog, setup, options)),
    diskChecks(setup),
    shareChecks(setup),
  ]);
  if (setup.upstreams.length === 0 && setup.catalogs.length === 0) {
    groups.push([
      problem(
        'sources',
        'the client has neither upstreams nor catalogs',
        'start it with --upstream or --catalog',
      ),
    ]);
  } else if (setup.catalogs.length === 0) {
    groups.push([
      warning(
        'catalogs',
        'there is none: everything comes over HTTP',
        'start the client with --catalog and --catalog-key',
      ),
    ]);
  }
  return groups.flat();
}

function placeCheck(url: string): Finding {
  const { hostname } = new URL(url);
  const host = hostname.replace(/^\[|\]$/g, '');
  const isLocal = host === 'localhost' || (isIP(host) !== 0 && !isPublicAddress(host));
  if (isLocal) return ok('client', `answers at ${url}`);
  return warning(
    'client',
    `answers at ${url}, which may be reached from anywhere`,
    'let it listen at 127.0.0.1, or in your own network: --http',
  );
}

async function upstreamChecks(
  upstream: string,
  setup: ClientSetup,
  options: CheckOptions,
): Promise<Finding[]> {
  const about = 'upstream';
  try {
    const answer = await fetch(`${upstream}/nix-cache-info`, { signal: options.signal });
    const text = await answer.text();
    const storeDir = /^StoreDir: (.+)$/m.exec(text)?.[1];
    const clock = clockChecks(upstream, answer.headers.get('date'), options.now());
    if (answer.status === 401 || answer.status === 403) {
      return setup.netrc
        ? [ok(about, `${upstream} answers, and wants a login, which the client has`), ...clock]
        : [problem(about, `${upstream} wants a login`, 'start the client with --netrc FILE'), ...clock];
    }
    if (!answer.ok)
      return [
        problem(
          about,
          `${upstream} answers ${answer.status} in place of its nix-cache-info`,
          'look whether its URL is right',
        ),
        ...clock,
      ];
    if (storeDir !== undefined && setup.storeDir !== undefined && storeDir !== setup.storeDir)
      return [
        problem(
          about,
          `${upstream} is of ${storeDir}, and another cache of ${setup.storeDir}`,
          'use caches of one store directory',
        ),
        ...clock,
      ];
    return [ok(about, `${upstream} answers`), ...clock];
  } catch (error) {
    return [
      problem(
        about,
        `${upstream} does not answer: ${why(error)}`,
        'look whether this machine reaches it; what catalogs have goes on without it',
      ),
    ];
  }
}

async function catalogChecks(catalog: string, setup: ClientSetup, options: CheckOptions): Promise<Finding[]> {
  const about = 'catalog';
  const http = new HttpCatalog({ url: catalog, trustedOrigins: [catalog] });
  try {
    const answer = await fetch(`${catalog}/nix-cache-info`, { signal: options.signal });
    await answer.body?.cancel();
    const clock = clockChecks(catalog, answer.headers.get('date'), options.now());
    const fetched = await http.fetchHead(undefined, options.signal).catch((error: unknown) => error);
    if (fetched instanceof Error) {
      return [
        warning(
          about,
          `${catalog} answers, and has published no head yet: its torrents can be used, its views and what it takes back cannot`,
          'ask whoever runs it; a new seeder publishes within a minute',
        ),
        ...clock,
      ];
    }
    if (typeof fetched !== 'object' || fetched === null || !('text' in fetched)) return clock;
    return [headCheck(catalog, String(fetched.text), setup, options.now()), ...clock];
  } catch (error) {
    return [
      problem(
        about,
        `${catalog} does not answer: ${why(error)}`,
        'look whether its URL is right and it is running; until then everything comes over HTTP',
      ),
    ];
  } finally {
    await http.close();
  }
}

function headCheck(catalog: string, text: string, { catalogKeys }: ClientSetup, nowMs: number): Finding {
  const about = 'catalog';
  try {
    const head = parseHead(text);
    const name = verifyHead(head, catalogKeys.map(parsePublicKey));
    if (name === undefined) {
      return problem(
        about,
        `${catalog} is signed by none of the keys that the client has: it believes nothing of it`,
        'ask whoever runs it for its public key: --catalog-key',
      );
    }
    const leftMs = head.expires * 1_000 - nowMs;
    if (leftMs <= 0) {
      return problem(
        about,
        `the head of ${catalog} expired ${printDuration(-leftMs)} ago: it may hide what was taken back`,
        'ask whoever runs it whether the seeder still publishes; look at the clock of this machine',
      );
    }
    return ok(about, `${catalog} answers, signed by ${name}, and is good for ${printDuration(leftMs)}`);
  } catch (error) {
    return problem(
      about,
      `the head of ${catalog} cannot be read: ${why(error)}`,
      'look whether it is a narswarm seeder or mirror',
    );
  }
}

function clockChecks(url: string, date: string | null, nowMs: number): Finding[] {
  const theirs = date === null ? Number.NaN : Date.parse(date);
  if (Number.isNaN(theirs)) return [];
  const differenceMs = nowMs - theirs;
  if (Math.abs(differenceMs) <= clockMaxMs) return [];
  const direction = differenceMs > 0 ? 'ahead of' : 'behind';
  return [
    problem(
      'clock',
      `this machine is ${printDuration(Math.abs(differenceMs))} ${direction} ${url}`,
      'set the clock: heads of catalogs and certificates expire by it',
    ),
  ];
}

async function diskChecks({ dataDir, cacheSizeBytes, heldBytes }: ClientSetup): Promise<Finding[]> {
  const about = 'disk';
  // It may be the directory of another user, or of another machine.
  const disk = await statfs(dataDir).catch(() => undefined);
  if (disk === undefined) return [];
  const freeBytes = disk.bavail * disk.bsize;
  const wantedBytes = Math.max(0, cacheSizeBytes - heldBytes);
  const room = `${printSize(freeBytes)} are free in ${dataDir}, and the client may keep ${printSize(wantedBytes)} more`;
  if (freeBytes >= wantedBytes) return [ok(about, room)];
  return [
    warning(about, room, 'give it a smaller --cache-size, or another --data; what does not fit is not kept'),
  ];
}

async function shareChecks(setup: ClientSetup): Promise<Finding[]> {
  const { share, peersAddress, localNetworks, localFault, sharePaused } = setup;
  if (share === 'off') return [ok('sharing', 'off: nothing is shared')];
  const findings: Finding[] = [];
  if (sharePaused !== undefined) {
    findings.push(
      warning(
        'sharing',
        `paused: ${pauses[sharePaused] ?? sharePaused}`,
        'nothing needs to be done: it goes on by itself',
      ),
    );
  } else if (peersAddress !== undefined) {
    const port = Number(peersAddress.split(':').at(-1));
    const host = peersAddress.slice(0, peersAddress.lastIndexOf(':')).replace(/^\[|\]$/g, '');
    findings.push(
      (await connects(host, port))
        ? ok(
            'sharing',
            `peers are served at ${peersAddress}; a firewall in front of this machine must let TCP port ${port} in`,
          )
        : problem(
            'sharing',
            `nobody can connect to ${peersAddress}`,
            'look whether a firewall on this machine keeps it shut: --peers',
          ),
    );
  }
  if (localFault !== undefined)
    findings.push(
      problem(
        'local network',
        `cannot be spoken to: ${localFault}`,
        'let UDP port 6771 in, or use --share on',
      ),
    );
  else if (localNetworks.length === 0)
    findings.push(
      warning(
        'local network',
        'there is none with private addresses',
        'nothing needs to be done: it is looked for every few seconds',
      ),
    );
  else
    findings.push(
      ok(
        'local network',
        `spoken to by multicast from ${localNetworks.join(', ')}; a firewall must let UDP port 6771 in`,
      ),
    );
  return findings;
}

const pauses: Readonly<Record<string, string>> = {
  metered: 'the connection is metered',
  quota: 'the upload quota of this month is used up',
  schedule: 'the schedule says so',
};

function connects(host: string, port: number): Promise<boolean> {
  const wildcard = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  return new Promise((resolve) => {
    const socket = connect({ host: wildcard, port });
    const end = (good: boolean): void => {
      socket.destroy();
      resolve(good);
    };
    socket.setTimeout(connectMs, () => end(false));
    socket.on('error', () => end(false));
    socket.on('connect', () => end(true));
  });
}

function why(error: unknown): string {
  if (error instanceof NarswarmError) return error.code;
  if (!(error instanceof Error)) return String(error);
  if (error.name === 'TimeoutError') return 'not in time';
  const { cause } = error;
  return cause instanceof Error && 'code' in cause ? String(cause.code) : error.message;
}
