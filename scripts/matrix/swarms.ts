/** The peers of each swarm: a real seeder, another that holds its copies back, and those that let others down. */

import { type BadPeer, openBadPeer } from '../../tests/helpers/bad-peer.ts';
import { openSlowPath } from '../../tests/helpers/slow-path.ts';
import type { MatrixLab } from './lab.ts';
import type { SwarmState } from './states.ts';
import { slowBytesPerSecond, slowDelayMs } from './upstreams.ts';

export interface MatrixSwarms {
  /** `host:port` of the peers of a swarm. */
  peersOf(swarm: SwarmState): readonly string[];
  close(): Promise<void>;
}

export async function openSwarms(lab: MatrixLab): Promise<MatrixSwarms> {
  const good = lab.seeder.peers ?? '';
  const bad: BadPeer[] = [];
  const open = async (fault: Parameters<typeof openBadPeer>[1]): Promise<string> => {
    const peer = await openBadPeer(good, fault);
    bad.push(peer);
    return peer.address;
  };
  const at = good.lastIndexOf(':');
  const slow = await openSlowPath({
    target: { host: good.slice(0, at), port: Number(good.slice(at + 1)) },
    delayMs: slowDelayMs,
    bytesPerSecond: slowBytesPerSecond,
  });
  const peers: Readonly<Record<SwarmState, readonly string[]>> = {
    none: [],
    good: [good],
    silent: [await open('mute'), await open('without-blocks')],
    flaky: [await open('flaky')],
    lying: [await open('lying'), await open('lying')],
    slow: [`${slow.host}:${slow.port}`],
    capped: [lab.capped.peers ?? ''],
  };
  return {
    peersOf: (swarm) => peers[swarm],
    async close() {
      await slow.close();
      for (const peer of bad) await peer.close();
    },
  };
}
