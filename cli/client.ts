/** `narswarm client`. */

import { isViewName } from '../catalog/head.ts';
import { parseUpstream } from '../client/asking/upstreams.ts';
import { type ShareMode, shareModes } from '../client/config.ts';
import { openClient } from '../client/main.ts';
import { makeLogger } from '../web/log.ts';
import { defineCommand, usageError } from './command.ts';
import { summaryOf } from './commands.ts';
import { makeDataDir } from './directories.ts';
import { anyText, many, offTo, optional, toggle, withDefault } from './flags.ts';
import { readPublicKeys } from './key-flags.ts';
import {
  clientHttpDefault,
  clientPeersDefault,
  defaultDataDir,
  parseHttpUrl,
  publicHostFlag,
  trustedKeyFlag,
} from './program-flags.ts';
import { parseScheduledRate } from './scheduled-rate.ts';
import { serveUntilStopped } from './serve.ts';
import { parseChoice, parseHostPort, parseSize, parseUploadRate } from './units.ts';

export const command = defineCommand({
  name: 'client',
  summary: summaryOf('client'),
  flags: {
    upstream: many({
      value: 'URL',
      help: 'binary cache for narinfos, and for NAR files where it is faster than the swarm; of several the lowest priority first, which is that of its nix-cache-info or ?priority=N after the URL, then in this order',
      parse: (text) => parseUpstream(text) && text,
      fallback: ['https://cache.nixos.org'],
    }),
    netrc: optional({
      value: 'FILE',
      help: 'logins of upstreams, as in the netrc-file of Nix; read once, at the start',
      parse: anyText,
    }),
    'no-upstream': toggle('take everything from catalogs and their swarms'),
    catalog: many({ value: 'URL', help: 'seeder or mirror', parse: parseHttpUrl }),
    'catalog-key': many({
      value: 'KEY',
      help: 'public key of a catalog, NAME:BASE64 or a file of them; no catalog is believed without',
      parse: readPublicKeys,
    }),
    view: many({
      value: 'NAME',
      help: 'view of a catalog, for instance a channel: all its narinfos are held here and answered without the network',
      parse: parseViewName,
    }),
    'cache-size': withDefault({
      value: 'SIZE',
      help: 'what the NAR files that are kept may take on disk; the least recently used go first',
      parse: parseSize,
      fallback: '10GiB',
    }),
    share: offTo<ShareMode>({
      help: 'seed what is fetched and kept, if a --trusted-key signed it: to the local network alone (lan), or to everybody (on, also --share alone); others then see what this machine has',
      choices: shareModes,
    }),
    'upload-rate': optional({
      value: 'RATE',
      help: 'what --share may upload; without it there is no limit',
      parse: parseUploadRate,
    }),
    schedule: many({
      value: 'CRON=RATE',
      help: 'another rate for --share from then on; 0 shares nothing, unlimited has no limit',
      parse: (text) => parseScheduledRate(text, 0),
    }),
    'upload-quota': optional({
      value: 'SIZE',
      help: 'what --share may upload in a calendar month; then it pauses until the next',
      parse: parseSize,
    }),
    'on-metered': withDefault({
      value: 'pause|share',
      help: 'what --share does while NetworkManager calls the connection metered',
      parse: (text) => parseChoice<'pause' | 'share'>(text, ['pause', 'share']),
      fallback: 'pause',
    }),
    'trusted-key': { ...trustedKeyFlag, help: `${trustedKeyFlag.help}; only what they signed is shared` },
    data: withDefault({
      value: 'DIR',
      help: 'what is kept, and what is known about it; made if it is missing',
      parse: anyText,
      fallback: defaultDataDir('client', process.env),
    }),
    http: withDefault({
      value: 'HOST:PORT',
      help: 'where Nix finds the substituter',
      parse: parseHostPort,
      fallback: clientHttpDefault,
    }),
    peers: withDefault({
      value: 'HOST:PORT',
      help: 'where BitTorrent peers are served; opened only with --share; its address says in which networks --share lan looks for others',
      parse: parseHostPort,
      fallback: clientPeersDefault,
    }),
    'public-host': {
      ...publicHostFlag,
      help: `${publicHostFlag.help}; pages about the client are given under that name, too`,
    },
  },
  notes: [
    'Standard output has one line when the client listens: ready client URL, and peers HOST:PORT with --share. That URL is the substituter for nix.conf; URL/_narswarm/ is a page about it.',
  ],
  examples: [
    "client --catalog http://seeder.example:8421 --catalog-key 'seeder.example-1:…'",
    'client --config /etc/narswarm/client.json --share lan --cache-size 50GiB',
  ],
  async run({ values, given, io }) {
    const noUpstream = values['no-upstream'];
    const catalogKeys = values['catalog-key'].flat();
    if (noUpstream && given.has('upstream'))
      throw usageError('--upstream and --no-upstream exclude each other');
    if (noUpstream && values.catalog.length === 0) {
      throw usageError('with --no-upstream there must be a catalog; write --catalog URL');
    }
    if (values.catalog.length > 0 && catalogKeys.length === 0) {
      throw usageError('a catalog is believed only under its key; write --catalog-key KEY as well');
    }
    if (values.view.length > 0 && values.catalog.length === 0)
      throw usageError('a view is that of a catalog; write --catalog URL as well');
    await makeDataDir(values.data);
    const publicHost = values['public-host'];
    const client = await openClient({
      dataDir: values.data,
      upstreams: noUpstream ? [] : values.upstream,
      netrc: values.netrc,
      catalogs: values.catalog,
      catalogKeys,
      views: values.view,
      trustedKeys: values['trusted-key'].flat(),
      http: values.http,
      peers: values.peers,
      cacheSizeBytes: values['cache-size'],
      share: values.share,
      uploadBytesPerSecond: values['upload-rate'],
      schedules: values.schedule,
      uploadQuotaBytes: values['upload-quota'],
      onMetered: values['on-metered'],
      noUpstream,
      logger: makeLogger(),
      ...(publicHost === undefined ? {} : { publicHost }),
    });
    const { url, peersAddress } = client;
    return serveUntilStopped(io, client, { role: 'client', url, peersAddress });
  },
});

function parseViewName(text: string): string {
  if (isViewName(text)) return text;
  throw usageError(`${JSON.stringify(text)} is not the name of a view; write for instance nixos-26.05`);
}
