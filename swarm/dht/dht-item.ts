/**
 * Mutable items of the DHT (BEP 44) that point to a torrent (BEP 46): what the holder of an Ed25519 key says last, kept by nodes next to
 * the hash of the key. Pure. Other values than an infohash are not spoken here: nobody is to keep anything else with us.
 */

import { hash } from 'node:crypto';
import { type InfoHash, infoHashToDigest } from '../../nar/hash.ts';
import { type PublicKey, type SecretKey, signBytes, verifyBytes } from '../../nar/signature.ts';
import { bencode } from '../bencode.ts';
import { dhtSaltMaxBytes } from './dht-limits.ts';

/** Whose item, and which of theirs. */
export interface DhtItemName {
  /** 32 bytes. */
  readonly key: Buffer;
  /** At most 64 bytes. */
  readonly salt: Buffer;
}

export interface DhtItem extends DhtItemName {
  /** Counts up: of two items under one name the one with the higher number counts. */
  readonly seq: number;
  readonly infoHash: InfoHash;
  /** 64 bytes. */
  readonly sig: Buffer;
}

export function dhtItemName(key: PublicKey, salt: string): DhtItemName {
  return { key: key.bytes, salt: Buffer.from(salt, 'latin1') };
}

/** Where in the DHT the item is: 20 bytes. */
export function dhtItemTarget({ key, salt }: DhtItemName): Buffer {
  return hash('sha1', Buffer.concat([key, salt]), 'buffer');
}

/** The value: `d2:ih20:…e`. */
export function dhtItemValue(infoHash: InfoHash): { ih: Buffer } {
  return { ih: infoHashToDigest(infoHash) };
}

export function signDhtItem(secret: SecretKey, salt: string, seq: number, infoHash: InfoHash): DhtItem {
  const name = dhtItemName(secret.publicKey, salt);
  if (name.salt.length > dhtSaltMaxBytes) throw new RangeError('the salt of an item is too long');
  return { ...name, seq, infoHash, sig: signBytes(secret, signedBytes({ ...name, seq, infoHash })) };
}

export function isDhtItemSigned(item: DhtItem): boolean {
  return verifyBytes(item.key, signedBytes(item), item.sig);
}

/** What BEP 44 has signed: the bencode of `salt` (if there is one), `seq` and `v`, without the `d` and the `e` around them. */
function signedBytes({ salt, seq, infoHash }: Omit<DhtItem, 'key' | 'sig'>): Buffer {
  const v = dhtItemValue(infoHash);
  return bencode(salt.length === 0 ? { seq, v } : { salt, seq, v }).subarray(1, -1);
}
