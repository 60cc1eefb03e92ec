/** A catalog over real seed servers; what the DHT answers is the test's. */

import { join } from 'node:path';
import t, { type Test } from 'tap';
import { followCatalog, readView } from '../../catalog/follow.ts';
import { openFollowed } from '../../catalog/followed.ts';
import { headFormat } from '../../catalog/head.ts';
import { segmentName } from '../../catalog/segment.ts';
import { type InfoHash, parseInfoHash, type Sha256 } from '../../nar/hash.ts';
import { type SecretKey, secretKeyFromSeed } from '../../nar/signature.ts';
import { headTorrent } from '../../parts/head-torrent.ts';
import { SwarmCatalog } from '../../parts/swarm-catalog.ts';
import type { PeerAddress } from '../../swarm/address/peer-address.ts';
import { type DhtItem, dhtItemTarget, signDhtItem } from '../../swarm/dht/dht-item.ts';
import { openSeedServer } from '../../swarm/seed/seed-server.ts';
import { type Torrent, TorrentHasher } from '../../swarm/torrent/torrent.ts';
import { headTime, logKey, MadeLog, narFiles, nixStoreDir } from '../catalog/made-log.ts';
import { provesNothingStaysOpen } from '../helpers/open-resources.ts';

/** Its files are torrents. */
class TorrentLog extends MadeLog {
  readonly torrents = new Map<InfoHash, { torrent: Torrent; bytes: Buffer }>();

  override putFile(file: Buffer): { sha256: Sha256; sizeBytes: number; infoHash: InfoHash } {
    const put = super.putFile(file);
    return { ...put, infoHash: this.addTorrent(file, segmentName(put.sha256)) };
  }

  addTorrent(bytes: Buffer, name: string): InfoHash {
    const hasher = new TorrentHasher(bytes.length);
    hasher.write(bytes);
    const torrent = hasher.finish(name);
    this.torrents.set(torrent.infoHash, { torrent, bytes });
    return torrent.infoHash;
  }

  /** The next head, and the item that names it. */
  publish(key: SecretKey = logKey, values: Parameters<MadeLog['head']>[0] = {}): DhtItem {
    const bytes = Buffer.from(this.head(values), 'latin1');
    const torrent = headTorrent(bytes);
    this.torrents.set(torrent.infoHash, { torrent, bytes });
    return signDhtItem(key, headFormat, this.sequence, torrent.infoHash);
  }

  /** `breaksAt`: it cannot read from there on. */
  async serve(t: Test, breaksAt = Number.POSITIVE_INFINITY) {
    const server = await openSeedServer({
      ...{ host: '127.0.0.1', port: 0 },
      source: {
        mayHold: (infoHash) => this.torrents.has(infoHash),
        open: async (infoHash) => {
          const held = this.torrents.get(infoHash);
          if (held === undefined) return undefined;
          return {
            torrent: held.torrent,
            async read(position, lengthBytes) {
              if (position >= breaksAt) throw new Error('the disk is gone');
              return held.bytes.subarray(position, position + lengthBytes);
            },
            close: async () => {},
          };
        },
      },
    });
    t.teardown(() => server.close());
    return server;
  }
}

/** What the DHT says. */
class MadeDht {
  readonly items = new Map<string, DhtItem>();
  peers: PeerAddress[] = [];
  readonly asked: string[] = [];

  put(item: DhtItem): void {
    this.items.set(dhtItemTarget(item).toString('hex'), item);
  }

  async getItem(name: Parameters<typeof dhtItemTarget>[0]): Promise<DhtItem | undefined> {
    this.asked.push('item');
    return this.items.get(dhtItemTarget(name).toString('hex'));
  }

  async findPeers(): Promise<PeerAddress[]> {
    this.asked.push('peers');
    return this.peers;
  }
}

function lab(t: Test) {
  const followed = openFollowed(join(t.testdir(), 'followed.sqlite'));
  t.teardown(() => followed.close());
  const dht = new MadeDht();
  const log = new TorrentLog();
  const options = { keys: [logKey.publicKey], nixStoreDir, now: () => headTime * 1000 };
  const limits = { stallMs: 5_000, peerMs: 1_000 };
  const swarm = (peers: PeerAddress[] = []) =>
    new SwarmCatalog({ dht, keys: () => [logKey.publicKey], peers, limits });
  const follow = (transport: SwarmCatalog) => followCatalog(followed, transport, options);
  return { followed, dht, log, swarm, follow, limits, options };
}

t.test('head, segments and views come from the peers that the DHT names', async (t) => {
  provesNothingStaysOpen(t);
  const { followed, dht, log, swarm, follow } = lab(t);
  dht.peers = [await log.serve(t)];
  await log.add(narFiles(0, 300));
  await log.add(narFiles(300, 5));
  await log.addView('nixos-26.05', narFiles(0, 10));
  dht.put(log.publish());
  const transport = swarm();
  t.match(await follow(transport), { state: 'advanced', records: 610 });
  t.equal(transport.item?.seq, 1, 'which anybody may have kept for longer');
  t.strictSame(dht.asked, ['item', 'peers'], 'those who had the head have the rest');
  t.match(await follow(transport), { state: 'unchanged' });
  await log.add(narFiles(305, 5));
  dht.put(log.publish());
  t.match(await follow(transport), { state: 'advanced', records: 620 });
  const [view] = followed.head()?.views ?? [];
  if (view === undefined) throw new Error('no view');
  const into = openFollowed(join(t.testdirName, 'view.sqlite'));
  t.teardown(() => into.close());
  t.match(await readView(into, transport, view, { nixStoreDir }), { records: 20 });
});

t.test('an item from before is refused, by who saw a newer one and by who took its head', async (t) => {
  provesNothingStaysOpen(t);
  const { dht, log, swarm, follow } = lab(t);
  dht.peers = [await log.serve(t)];
  await log.add(narFiles(0, 3));
  const old = log.publish();
  await log.add(narFiles(3, 3));
  dht.put(log.publish());
  const transport = swarm();
  await follow(transport);
  dht.put(old);
  await t.rejects(follow(transport), { code: 'catalog-rollback', message: /the DHT names head 1/ });
  await t.rejects(follow(swarm()), { code: 'catalog-rollback' }, 'after a restart');
});

t.test('the newest item of several keys counts', async (t) => {
  provesNothingStaysOpen(t);
  const { dht, log, follow } = lab(t);
  const server = await log.serve(t);
  const nextKey = secretKeyFromSeed('catalog.example-2', Buffer.alloc(32, 2));
  await log.add(narFiles(0, 3));
  dht.put(log.publish(logKey));
  await log.add(narFiles(3, 3));
  dht.put(log.publish(nextKey));
  const keys = [logKey.publicKey, nextKey.publicKey];
  t.match(await follow(new SwarmCatalog({ dht, keys: () => keys, peers: [server] })), { records: 12 });
});

t.test('a head that is named before anybody has it hides none that somebody has', async (t) => {
  provesNothingStaysOpen(t);
  const { dht, log, follow, limits } = lab(t);
  const server = await log.serve(t);
  const nextKey = secretKeyFromSeed('catalog.example-2', Buffer.alloc(32, 2));
  await log.add(narFiles(0, 3));
  const first = log.publish(logKey);
  dht.put(first);
  await log.add(narFiles(3, 3));
  const second = log.publish(nextKey);
  dht.put(second);
  const held = log.torrents.get(second.infoHash);
  log.torrents.delete(second.infoHash);
  const keys = [logKey.publicKey, nextKey.publicKey];
  const transport = new SwarmCatalog({ dht, keys: () => keys, peers: [server], limits });
  t.match(await follow(transport), { state: 'advanced', records: 6 }, 'that of the other key');
  t.match(await follow(transport), { state: 'unchanged' });

  dht.items.clear();
  dht.put(second);
  await t.rejects(follow(transport), {
    code: 'upstream-failed',
    message: /the DHT names head 2 of the catalog, which nobody gives yet/,
  });
  dht.put(first);
  dht.items.delete(dhtItemTarget(second).toString('hex'));
  t.match(await follow(transport), { state: 'unchanged' }, 'it was named, and is no rollback');
  if (held !== undefined) log.torrents.set(second.infoHash, held);
  dht.put(second);
  t.match(await follow(transport), { state: 'advanced', records: 12 });
});

t.test('where a peer breaks off, those that the DHT names go on', async (t) => {
  provesNothingStaysOpen(t);
  const { dht, log, swarm, follow } = lab(t);
  const { sizeBytes } = await log.add(narFiles(0, 600));
  t.ok(sizeBytes > 2 * 65_536, 'it has several pieces');
  dht.put(log.publish());
  const broken = await log.serve(t, 65_536);
  const good = await log.serve(t);
  dht.peers = [good];
  t.match(await follow(swarm([{ host: '127.0.0.1', port: 1 }, broken])), { records: 1_200 });
  t.ok(good.status().uploadedBytes < sizeBytes, 'they were not asked for what there was');
});

t.test('what cannot be had, and what is not what it should be, is refused', async (t) => {
  provesNothingStaysOpen(t);
  const { dht, log, swarm, follow } = lab(t);
  await t.rejects(follow(swarm()), { code: 'upstream-failed', message: /nobody in the DHT knows/ });
  const { infoHash } = await log.add(narFiles(0, 3));
  dht.put(log.publish());
  await t.rejects(follow(swarm()), { code: 'upstream-failed', message: /nobody gives/ }, 'no peers');
  dht.peers = [await log.serve(t)];
  dht.put(signDhtItem(logKey, headFormat, 1, infoHash));
  await t.rejects(follow(swarm()), { code: 'head-corrupt' }, 'a segment in place of a head');
  dht.put(signDhtItem(logKey, headFormat, 1, parseInfoHash('ab'.repeat(20))));
  await t.rejects(follow(swarm()), { code: 'upstream-failed' }, 'a torrent that nobody has');

  const [segment] = log.segments;
  if (segment === undefined) throw new Error('no segment');
  const other = log.addTorrent(Buffer.from('other bytes'), segmentName(segment.sha256));
  dht.put(log.publish(logKey, { segments: [{ ...segment, infoHash: other }] }));
  await t.rejects(follow(swarm()), { code: 'segment-mismatch' }, 'another length');
  const renamed = log.addTorrent(
    log.files.get(segment.sha256) ?? Buffer.alloc(1),
    segmentName('0'.repeat(52) as Sha256),
  );
  dht.put(log.publish(logKey, { segments: [{ ...segment, infoHash: renamed }] }));
  await t.rejects(follow(swarm()), { code: 'segment-mismatch' }, 'another name');
  log.torrents.delete(infoHash);
  dht.peers = [await log.serve(t)];
  dht.put(log.publish());
  await t.rejects(follow(swarm()), { code: 'segment-missing' });
  await t.rejects(swarm().fetchHead(undefined, AbortSignal.abort()), { code: 'aborted' });
});
