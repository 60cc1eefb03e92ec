/** The flags of a node of the DHT, alike in all commands that have one. */

import { isIPv6 } from 'node:net';
import { NarswarmError } from '../nar/errors.ts';
import { bootstrapNodesMax } from '../swarm/dht/dht-limits.ts';
import { usageError } from './command.ts';
import { many, optional } from './flags.ts';
import { type HostPort, parseHostPort } from './units.ts';

/** `what`: what the node does there. */
export function dhtFlag(what: string) {
  return optional({
    value: 'HOST:PORT',
    help: `where a node of the DHT listens (UDP, IPv4), ${what}; without it there is none`,
    parse: parseDhtAddress,
  });
}

export const dhtBootstrapFlag = many({
  value: 'HOST:PORT',
  help: 'node by which the DHT is found, for instance router.bittorrent.com:6881',
  parse: parseDhtAddress,
});

/** Throws config-invalid for what does not go together. */
export function dhtOf(values: {
  dht: HostPort | undefined;
  'dht-bootstrap': HostPort[];
}): (HostPort & { bootstrap: HostPort[] }) | undefined {
  const { dht, 'dht-bootstrap': bootstrap } = values;
  if (dht === undefined && bootstrap.length > 0)
    throw usageError('--dht-bootstrap is of use with --dht HOST:PORT alone');
  if (bootstrap.length > bootstrapNodesMax)
    throw usageError(`--dht-bootstrap is given more than ${bootstrapNodesMax} times`);
  return dht && { ...dht, bootstrap };
}

/** Throws config-invalid. */
function parseDhtAddress(text: string): HostPort {
  const address = parseHostPort(text);
  if (isIPv6(address.host))
    throw new NarswarmError('config-invalid', 'the DHT is spoken over IPv4; write an IPv4 address or a name');
  return address;
}
