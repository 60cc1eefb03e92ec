import t from 'tap';
import { NarswarmError } from '../../nar/errors.ts';
import { type InfoHash, parseInfoHash } from '../../nar/hash.ts';
import { secretKeyFromSeed } from '../../nar/signature.ts';
import { HeadInDht } from '../../parts/head-in-dht.ts';
import { HeadSource } from '../../parts/head-source.ts';
import { type DhtItem, signDhtItem } from '../../swarm/dht/dht-item.ts';
import { silentLogger } from '../../web/log.ts';
import { until } from '../helpers/program.ts';

const key = secretKeyFromSeed('catalog.example-1', Buffer.alloc(32, 1));
const [first, second] = [parseInfoHash('01'.repeat(20)), parseInfoHash('02'.repeat(20))];
const itemsOf = (seq: number, infoHash: InfoHash) => [signDhtItem(key, 'narswarm-catalog-1', seq, infoHash)];

class MadeDht {
  readonly pinned = new Set<InfoHash>();
  readonly puts: number[] = [];
  takes: (item: DhtItem, signal?: AbortSignal) => Promise<number> = async () => 8;

  pin(infoHash: InfoHash): void {
    this.pinned.add(infoHash);
  }

  unpin(infoHash: InfoHash): void {
    this.pinned.delete(infoHash);
  }

  putItem(item: DhtItem, signal?: AbortSignal): Promise<number> {
    this.puts.push(item.seq);
    return this.takes(item, signal);
  }
}

const hourMs = 3_600_000;
const open = (dht: MadeDht, everyMs = hourMs, retryMs = hourMs) =>
  new HeadInDht({ dht, logger: silentLogger, limits: { everyMs, retryMs } });

t.test('an item is put at once, and again and again; a new head takes its place', async (t) => {
  const dht = new MadeDht();
  const kept = open(dht, 1);
  t.teardown(() => kept.close());
  kept.show(first, itemsOf(1, first));
  await until(async () => dht.puts.length >= 3);
  kept.show(second, itemsOf(2, second));
  await until(async () => dht.puts.at(-1) === 2);
  t.strictSame([...dht.pinned], [second]);
  await until(async () => kept.status().sequence === 2);
  t.match(kept.status(), { nodes: 8, failures: 0 });
});

t.test(
  'the same head again changes nothing, and of several while one is put the last one counts',
  async (t) => {
    const dht = new MadeDht();
    const kept = open(dht);
    t.teardown(() => kept.close());
    const { promise, resolve } = Promise.withResolvers<number>();
    dht.takes = () => promise;
    for (const seq of [1, 2, 3]) {
      const infoHash = parseInfoHash(`0${seq}`.repeat(20));
      kept.show(infoHash, itemsOf(seq, infoHash));
      kept.show(infoHash, itemsOf(seq, infoHash));
    }
    resolve(8);
    await until(async () => kept.status().sequence === 3);
    t.strictSame(dht.puts, [1, 3]);
  },
);

t.test('what nobody takes is tried again sooner, and counted', async (t) => {
  const dht = new MadeDht();
  const answers = [async () => 0, async () => Promise.reject(new NarswarmError('dht-failed', 'it ended'))];
  dht.takes = () => (answers.shift() ?? (async () => 8))();
  const kept = open(dht, hourMs, 1);
  t.teardown(() => kept.close());
  kept.show(first, itemsOf(1, first));
  await until(async () => kept.status().nodes === 8);
  t.equal(kept.status().failures, 2);
  t.equal(dht.puts.length, 3);
});

t.test('closing gives up what is under way, and may be done twice', async (t) => {
  const dht = new MadeDht();
  dht.takes = (_item, signal) =>
    new Promise((_resolve, reject) => signal?.addEventListener('abort', () => reject(new Error('given up'))));
  const kept = open(dht);
  kept.show(first, itemsOf(1, first));
  await Promise.all([kept.close(), kept.close()]);
  kept.show(second, itemsOf(2, second));
  t.strictSame(dht.puts, [1]);
});

t.test('heads are seeded as they are, the last ones of them', async (t) => {
  const source = new HeadSource();
  t.equal(source.newest, undefined);
  const torrents = Array.from({ length: 40 }, (_, n) => source.show(`Format: head ${n}\n`));
  t.equal(torrents.filter(({ infoHash }) => source.mayHold(infoHash)).length, 30);
  const last = torrents.at(-1)?.infoHash ?? first;
  t.equal(source.newest, last);
  const handle = await source.open(last);
  t.equal((await handle?.read(0, 15))?.toString(), 'Format: head 39');
  await handle?.close();
  t.equal(await source.open(first), undefined);
  const large = [0, 1, 2, 3, 4].map((n) => source.show(String(n).repeat(4 << 20)));
  t.equal(large.filter(({ infoHash }) => source.mayHold(infoHash)).length, 4, '16 MiB of them at most');
});
