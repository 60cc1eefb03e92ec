/** Signed items are kept by libtorrent, which checks what it keeps, and come back from there. */

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import t from 'tap';
import { parseInfoHash } from '../../nar/hash.ts';
import { secretKeyFromSeed } from '../../nar/signature.ts';
import { dhtItemName, signDhtItem } from '../../swarm/dht/dht-item.ts';
import { openNode } from './dht-fixture.ts';

const libtorrentMissing =
  spawnSync('/usr/bin/python3', ['-c', 'import libtorrent']).status === 0
    ? false
    : 'python3-libtorrent is not installed';

t.test('libtorrent keeps an item of ours, and gives it back', { skip: libtorrentMissing }, async (t) => {
  const script = join(import.meta.dirname, '../helpers/peers/libtorrent-dht-node.py');
  const child = spawn('/usr/bin/python3', [script, '127.0.0.1'], { stdio: ['pipe', 'pipe', 'inherit'] });
  const gone = once(child, 'close');
  t.teardown(async () => {
    child.stdin.end();
    await gone;
  });
  const [line] = await once(child.stdout, 'data');
  const bootstrap = [{ host: '127.0.0.1', port: Number(String(line)) }];
  const key = secretKeyFromSeed('catalog.example-1', Buffer.alloc(32, 1));
  const infoHash = parseInfoHash('5a'.repeat(20));
  const writer = await openNode(t, { bootstrap });
  t.equal(await writer.putItem(signDhtItem(key, 'narswarm-catalog-1', 7, infoHash)), 1);
  t.equal(await writer.putItem(signDhtItem(key, 'narswarm-catalog-1', 7, infoHash)), 1, 'and once more');
  await writer.close();
  const reader = await openNode(t, { bootstrap });
  t.match(await reader.getItem(dhtItemName(key.publicKey, 'narswarm-catalog-1')), { seq: 7, infoHash });
});
