import { once } from 'node:events';
import type { Server } from 'node:net';

/** On a port of the system's choice, which it gives. */
export async function listen(server: Server, host: string): Promise<number> {
  server.listen(0, host);
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('it listens at no port');
  return address.port;
}
