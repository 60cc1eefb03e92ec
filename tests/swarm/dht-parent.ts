/** A process with a DHT node, to be killed: says the child's process id. */

import { openDht } from '../../swarm/dht/dht.ts';

const dht = await openDht({ host: '127.0.0.1', port: 0, bootstrap: [], peersPort: 6881 });
process.stdout.write(`${dht.pid}\n`);
