/** `narswarm mirror`. */

import { openMirror } from '../mirror/main.ts';
import { checkSelections, parseSelection } from '../mirror/selection.ts';
import { makeLogger } from '../web/log.ts';
import { defineCommand, usageError } from './command.ts';
import { summaryOf } from './commands.ts';
import { dhtBootstrapFlag, dhtFlag, dhtOf } from './dht-flags.ts';
import { makeDataDir } from './directories.ts';
import { anyText, many, optional, required, toggle, withDefault } from './flags.ts';
import { readPublicKeys } from './key-flags.ts';
import {
  defaultDataDir,
  mirrorHttpDefault,
  mirrorPeersDefault,
  parseHttpUrl,
  parseNixStoreDir,
  publicHostFlag,
  trustedKeyFlag,
} from './program-flags.ts';
import { parseScheduledRate } from './scheduled-rate.ts';
import { serveUntilStopped } from './serve.ts';
import { parseDuration, parseHostPort, parseSize, parseUploadRate } from './units.ts';

export const command = defineCommand({
  name: 'mirror',
  summary: summaryOf('mirror'),
  flags: {
    catalog: many({
      value: 'URL',
      help: 'seeder or other mirror of a catalog; name several, so that one of them is there',
      parse: parseHttpUrl,
    }),
    'catalog-key': many({
      value: 'KEY',
      help: 'public key of a catalog, NAME:BASE64 or a file of its keys; given again for each further catalog',
      parse: readPublicKeys,
    }),
    select: many({
      value: 'RULE',
      help: 'what is wanted, the most wanted first: channel:NAME, closure:STOREPATH, paths:FILE, popular, rare or all; =60% behind it gives it that share of the quota',
      parse: parseSelection,
      fallback: ['all'],
    }),
    quota: required({
      value: 'SIZE',
      help: 'what the data directory may take, also while something is fetched',
      parse: parseSize,
    }),
    'min-free': withDefault({
      value: 'SIZE',
      help: 'what is left free on the disk, whoever fills it',
      parse: parseSize,
      fallback: '5GiB',
    }),
    'trusted-key': {
      ...trustedKeyFlag,
      help: `${trustedKeyFlag.help}; what none of them signed is not kept`,
    },
    'upload-rate': optional({
      value: 'RATE',
      help: 'upload of everything; without it there is no limit',
      parse: parseUploadRate,
    }),
    schedule: many({
      value: 'CRON=RATE',
      help: "takes the place of --upload-rate from when it is due; at a rate of 0 nothing is fetched or offered, for instance '0 8 * * 1-5=0'",
      parse: (text) => parseScheduledRate(text, 0),
    }),
    'verify-rate': withDefault({
      value: 'RATE',
      help: 'at which what is held is read again to find what the disk has lost',
      parse: parseUploadRate,
      fallback: '10MiB/s',
    }),
    'verify-every': withDefault({
      value: 'TIME',
      help: 'each NAR file is read again after so long',
      parse: parseDuration,
      fallback: '30d',
    }),
    'http-fallback': toggle(
      'fetch what no peer gives from the web servers of the catalogs; their owners pay for that',
    ),
    data: withDefault({
      value: 'DIR',
      help: 'everything that is kept; made if it is missing',
      parse: anyText,
      fallback: defaultDataDir('mirror', process.env),
    }),
    http: withDefault({
      value: 'HOST:PORT',
      help: 'where clients, other mirrors and Nix itself are served',
      parse: parseHostPort,
      fallback: mirrorHttpDefault,
    }),
    peers: withDefault({
      value: 'HOST:PORT',
      help: 'where BitTorrent peers are served; to be reached from outside',
      parse: parseHostPort,
      fallback: mirrorPeersDefault,
    }),
    'public-host': publicHostFlag,
    dht: dhtFlag('by which the catalogs are found when their servers are gone, and kept there for others'),
    'dht-bootstrap': dhtBootstrapFlag,
    'store-dir': withDefault({
      value: 'DIR',
      help: 'the store directory that the catalogs are for',
      parse: parseNixStoreDir,
      fallback: '/nix/store',
    }),
  },
  notes: [
    'Standard output has one line when the mirror listens: ready mirror URL peers HOST:PORT. URL is a substituter and a catalog; URL/of/NAME is the one whose key has that name.',
  ],
  examples: [
    "mirror --catalog http://seeder.example:8421 --catalog-key 'seeder.example-1:…' --quota 2TiB",
    "mirror --config /etc/narswarm/mirror.json --select 'channel:nixos-26.05=60%' --select rare",
  ],
  async run({ values, io }) {
    const { catalog: catalogs, select: selections } = values;
    const catalogKeys = values['catalog-key'];
    if (catalogs.length === 0) throw usageError('--catalog is missing; write --catalog URL');
    if (catalogKeys.length === 0) {
      throw usageError('a catalog is believed only under its key; write --catalog-key KEY as well');
    }
    checkSelections(selections);
    const dht = dhtOf(values);
    await makeDataDir(values.data);
    const publicHost = values['public-host'];
    const mirror = await openMirror({
      dataDir: values.data,
      catalogs: [...new Set(catalogs)],
      catalogKeys,
      trustedKeys: values['trusted-key'].flat(),
      nixStoreDir: values['store-dir'],
      selections,
      quotaBytes: values.quota,
      minFreeBytes: values['min-free'],
      uploadBytesPerSecond: values['upload-rate'],
      schedules: values.schedule,
      verifyBytesPerSecond: values['verify-rate'],
      verifyEveryMs: values['verify-every'],
      httpFallback: values['http-fallback'],
      http: values.http,
      peers: values.peers,
      logger: makeLogger(),
      ...(publicHost === undefined ? {} : { publicHost }),
      ...(dht === undefined ? {} : { dht }),
    });
    return serveUntilStopped(io, mirror, { role: 'mirror', ...mirror });
  },
});
