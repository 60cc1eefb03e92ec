/** What the DHT's parent and child process say to each other; each side checks what the other says. */

import { z } from 'zod';
import { dhtDropReasons } from './dht-guard.ts';
import { bootstrapNodesMax, dhtFoundPeersMax } from './dht-limits.ts';

const infoHash = z.string().regex(/^[0-9a-f]{40}$/);
const port = z.int().min(0).max(65_535);
const count = z.int().min(0);
const limit = z.int().min(1);
const host = z.string().min(1).max(253);
const textMaxCharacters = 1_000;
/** Of a question, by which its answer is known. */
const id = z.int().min(0);

const itemName = {
  key: z.string().regex(/^[0-9a-f]{64}$/),
  salt: z.string().regex(/^([0-9a-f]{2}){0,64}$/),
};
const signedValue = { seq: count, infoHash, sig: z.string().regex(/^[0-9a-f]{128}$/) };

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
      itemsMax: limit,
      lookupsKept: limit,
      queryWindowMs: limit,
      queriesPerAddressMax: limit,
      queriesMax: limit,
      transactionsMax: limit,
    }),
  }),
  z.strictObject({ type: z.literal('announce'), infoHash }),
  z.strictObject({ type: z.literal('find-peers'), id, infoHash }),
  z.strictObject({ type: z.literal('get-item'), id, ...itemName }),
  /** Signed already: the secret key is none of the child's business. */
  z.strictObject({ type: z.literal('put-item'), id, ...itemName, ...signedValue }),
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
  z.strictObject({
    type: z.literal('found-peers'),
    id,
    peers: z.array(z.strictObject({ host: z.ipv4(), port })).max(dhtFoundPeersMax),
  }),
  /** `item`: the newest, if there is one. */
  z.strictObject({ type: z.literal('got-item'), id, item: z.strictObject(signedValue).optional() }),
  /** `nodes`: how many have it now. */
  z.strictObject({ type: z.literal('kept-item'), id, nodes: count }),
  /** The last thing that a child says. */
  z.strictObject({ type: z.literal('failed'), message: z.string().max(textMaxCharacters) }),
]);

export type ToChild = z.infer<typeof toChild>;
export type FromChild = z.infer<typeof fromChild>;
export type DhtQuestion = Extract<ToChild, { id: number }>;
export type DhtReply = Extract<FromChild, { id: number }>;
export type StartMessage = Extract<ToChild, { type: 'start' }>;

/** As long as `fromChild` allows. */
export function failureText(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).slice(0, textMaxCharacters);
}
