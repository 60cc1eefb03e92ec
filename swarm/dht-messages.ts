/** What the DHT's parent and child process say to each other; each side checks what the other says. */

import { z } from 'zod';
import { dhtDropReasons } from './dht-guard.ts';
import { bootstrapNodesMax } from './dht-limits.ts';

const infoHash = z.string().regex(/^[0-9a-f]{40}$/);
const port = z.int().min(0).max(65_535);
const count = z.int().min(0);
const limit = z.int().min(1);
const host = z.string().min(1).max(253);
const textMaxCharacters = 1_000;

export const toChild = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('start'),
    host,
    port,
    /** 40 hexadecimal digits; the same after a restart, so that other nodes know this one again. */
    nodeId: infoHash,
    bootstrap: z.array(z.strictObject({ host, port })).max(bootstrapNodesMax),
    announce: z.strictObject({
      /** Where BitTorrent peers are served. */
      port,
      /** The address that this node names itself when it is asked; others take it from the packets. */
      host: z.ipv4().optional(),
    }),
    limits: z.object({
      heartbeatMs: limit,
      lookupMs: limit,
      peersMax: limit,
      lookupsKept: limit,
      queryWindowMs: limit,
      queriesPerAddressMax: limit,
      queriesMax: limit,
      transactionsMax: limit,
    }),
  }),
  z.strictObject({ type: z.literal('announce'), infoHash }),
]);

export const fromChild = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('listening'), host, port }),
  /** Sent at intervals, which shows that the child lives. Counters are of this child, since it started. */
  z.strictObject({
    type: z.literal('status'),
    nodes: count,
    received: count,
    drops: z.record(z.enum(dhtDropReasons), count),
  }),
  /** `nodes`: how many took the announce. */
  z.strictObject({ type: z.literal('announced'), infoHash, nodes: count }),
  /** The last thing that a child says. */
  z.strictObject({ type: z.literal('failed'), message: z.string().max(textMaxCharacters) }),
]);

export type ToChild = z.infer<typeof toChild>;
export type FromChild = z.infer<typeof fromChild>;
export type StartMessage = Extract<ToChild, { type: 'start' }>;

/** As long as `fromChild` allows. */
export function failureText(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).slice(0, textMaxCharacters);
}
