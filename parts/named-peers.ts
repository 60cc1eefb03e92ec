/**
 * Which of the peers that somebody names may be connected to. Catalogs and their trackers say who has what, and nobody signs that: without
 * this, one in the internet could make every client knock at whatever stands in its own network, with twenty bytes of the catalog's choice.
 */

import type { PeerAddress } from '../swarm/address/peer-address.ts';
import { isPublicAddress } from '../upstream/public-address.ts';

/**
 * Whoever was asked in a private network, or on this machine, may name anybody. Whoever was asked at a public address may name public addresses
 * alone, and no host names, which could stand for any. `askedAt`: where the connection went to, as a name can mean one thing today and another
 * tomorrow.
 */
export function mayBeNamed({ host }: PeerAddress, askedAt: string | undefined): boolean {
  if (askedAt !== undefined && !isPublicAddress(askedAt)) return true;
  return isPublicAddress(host);
}
