/** `narswarm catalog`. */

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CatalogFiles } from '../catalog/files.ts';
import {
  type CatalogTransport,
  type FollowResult,
  fetchSegments,
  followCatalog,
  trustedKeys,
} from '../catalog/follow.ts';
import { type FollowedCatalog, openFollowed } from '../catalog/followed.ts';
import { isNarswarmError } from '../nar/errors.ts';
import { SwarmCatalog } from '../parts/swarm-catalog.ts';
import { lockDataDir } from '../store/data-lock.ts';
import { type Dht, openDht } from '../swarm/dht/dht.ts';
import { HttpCatalog } from '../upstream/http-catalog.ts';
import { type CommandIo, defineCommand, usageError } from './command.ts';
import { summaryOf } from './commands.ts';
import { dhtBootstrapFlag, dhtFlag, dhtOf } from './dht-flags.ts';
import { anyText, many, optional, toggle, withDefault } from './flags.ts';
import { readPublicKeys } from './key-flags.ts';
import { defaultDataDir, parseHttpUrl } from './program-flags.ts';
import { parseDuration, parseHostPort } from './units.ts';

export const command = defineCommand({
  name: 'catalog',
  summary: summaryOf('catalog'),
  usage: '[URL…]',
  positionals: { min: 0, max: 16 },
  flags: {
    'catalog-key': many({
      value: 'KEY',
      help: 'public key of the catalog, NAME:BASE64 or a file of them; later ones are introduced by its heads',
      parse: readPublicKeys,
    }),
    data: withDefault({
      value: 'DIR',
      help: 'where the followed catalog is kept; made if it is missing',
      parse: anyText,
      fallback: defaultDataDir('catalog', process.env),
    }),
    'store-dir': withDefault({
      value: 'DIR',
      help: 'store directory that the catalog must be for',
      parse: anyText,
      fallback: '/nix/store',
    }),
    every: optional({
      value: 'TIME',
      help: 'goes on following, so often, until it is stopped; without it once',
      parse: parseDuration,
    }),
    dht: dhtFlag('which finds the catalog by its key alone, without any server'),
    'dht-bootstrap': dhtBootstrapFlag,
    peer: many({
      value: 'HOST:PORT',
      help: 'BitTorrent peer that has the catalog, asked before those that the DHT names',
      parse: parseHostPort,
    }),
    'keep-files': toggle('keeps the segments in DIR/catalog as well, for any web server'),
  },
  notes: [
    'Several URLs are the same catalog at different places: the newest head that is valid counts, and each file comes from whoever has it.',
    'Exit status 1 when no head could be taken, or a file is not what the head says; what was followed before stays as it was.',
  ],
  examples: [
    "catalog http://seeder.example:8421 --catalog-key 'seeder.example-1:…' --data followed",
    "catalog --dht 0.0.0.0:6881 --dht-bootstrap router.bittorrent.com:6881 --catalog-key 'seeder.example-1:…'",
  ],
  async run({ values, positionals, io }) {
    const { data, every } = values;
    const keys = values['catalog-key'].flat();
    if (keys.length === 0)
      throw usageError('a catalog is believed only under its key; write --catalog-key KEY');
    const urls = positionals.map(parseHttpUrl);
    const dhtConfig = dhtOf(values);
    if (urls.length === 0 && dhtConfig === undefined)
      throw usageError('nothing says where the catalog is; write its URL, or --dht HOST:PORT');
    if (dhtConfig === undefined && values.peer.length > 0)
      throw usageError(
        '--peer is of use with --dht HOST:PORT alone: peers do not say which head is the newest',
      );
    await mkdir(data, { recursive: true });
    const lock = lockDataDir(data);
    const overHttp = urls.map((url) => new HttpCatalog({ url }));
    const followed = openFollowed(join(data, 'followed.sqlite'));
    let dht: Dht | undefined;
    try {
      dht = dhtConfig && (await openDht(dhtConfig));
      const transports: CatalogTransport[] = [...overHttp];
      if (dht !== undefined)
        transports.push(
          new SwarmCatalog({ dht, keys: () => trustedKeys(followed, keys), peers: values.peer }),
        );
      const options = {
        ...{ keys, nixStoreDir: values['store-dir'], now: Date.now, signal: io.signal },
        ...(values['keep-files'] ? { files: await CatalogFiles.open(join(data, 'catalog')) } : {}),
      };
      const follow = async (): Promise<FollowResult> => {
        const result = await followCatalog(followed, transports, options);
        const head = followed.head();
        const { files, signal } = options;
        if (head !== undefined && files !== undefined) {
          await fetchSegments(followed, transports, { files, signal });
          await files.putHead(head.text);
        }
        return result;
      };
      if (every === undefined) {
        try {
          printFollowed(await follow(), followed, io);
        } catch (error) {
          const { sequence } = followed.head() ?? {};
          if (sequence !== undefined) io.note(`head ${sequence} and what it names are kept from before\n`);
          throw error;
        }
        return 0;
      }
      io.serving();
      while (!io.signal.aborted) {
        try {
          const result = await follow();
          if (result.state === 'advanced') printFollowed(result, followed, io);
        } catch (error) {
          if (io.signal.aborted) break;
          if (!isNarswarmError(error)) throw error;
          io.note(`${error.code}: ${error.message}\n`);
        }
        await sleep(every, undefined, { signal: io.signal }).catch(() => undefined);
      }
      return 0;
    } finally {
      followed.close();
      await Promise.all(overHttp.map((transport) => transport.close()));
      await dht?.close();
      lock.close();
    }
  },
});

function printFollowed(result: FollowResult, followed: FollowedCatalog, io: CommandIo): void {
  const head = followed.head();
  if (head === undefined) return;
  const { records, narFiles, narInfos, packs, revoked } = followed.counts();
  const date = (seconds: number): string => new Date(seconds * 1000).toISOString();
  const rows: [string, string][] = [
    ['head', `${head.sequence} of ${date(head.time)}, until ${date(head.expires)}, ${result.state}`],
    ['records', `${records} in ${head.segments.length} segments`],
    ['holds', `${narFiles} NAR files, ${narInfos} narinfos, ${packs} packs, ${revoked} revoked`],
    ...head.keys.map((key): [string, string] => ['key', key]),
    ...head.views.map(({ name, paths, sizeBytes }): [string, string] => [
      'view',
      `${name}: ${paths} store paths in ${sizeBytes} bytes`,
    ]),
    ...result.refused.map(({ code, message }): [string, string] => ['refused', `${code}: ${message}`]),
  ];
  io.out(rows.map(([name, value]) => `${name.padEnd(9)}${value}\n`).join(''));
}
