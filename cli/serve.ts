/** How a long-running program spends its life: one ready line, then until it is asked to stop. */

import type { CommandIo } from './command.ts';
import { aborted } from './signals.ts';

export interface Ready {
  role: string;
  url: string;
  /** HOST:PORT of the BitTorrent listener. */
  peersAddress?: string | undefined;
  trackerUrl?: string | undefined;
  udpTrackerUrl?: string | undefined;
}

/** `ready <role> <http url>[ peers <host:port>][ tracker <url>][ tracker-udp <url>]` */
export function readyLine({ role, url, peersAddress, trackerUrl, udpTrackerUrl }: Ready): string {
  const peers = peersAddress === undefined ? '' : ` peers ${peersAddress}`;
  const tracker = trackerUrl === undefined ? '' : ` tracker ${trackerUrl}`;
  const udp = udpTrackerUrl === undefined ? '' : ` tracker-udp ${udpTrackerUrl}`;
  return `ready ${role} ${url}${peers}${tracker}${udp}\n`;
}

/** Resolves with the exit status after `program` was closed. */
export async function serveUntilStopped(
  io: CommandIo,
  program: { close(): Promise<void> },
  ready: Ready,
): Promise<number> {
  io.serving();
  io.out(readyLine(ready));
  await aborted(io.signal);
  await program.close();
  return 0;
}
