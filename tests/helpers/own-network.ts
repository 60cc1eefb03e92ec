/**
 * A network namespace with nothing but a loopback interface, for real BitTorrent programs: whatever they announce or look for stays
 * inside. It has addresses outside 127.0.0.0/8, because Transmission takes no peer there.
 */
import { spawnSync } from 'node:child_process';

const mark = 'NARSWARM_TEST_OWN_NETWORK';
const network = '10.77.0';

/**
 * The address to use inside the namespace. Outside, the calling file is run again inside, with its arguments, and this process ends
 * with its status; `undefined` where namespaces are not to be had.
 */
export function enterOwnNetwork(file: string): string | undefined {
  if (insideOwnNetwork()) return ownNetworkAddress(1);
  const setUp = `ip link set lo up && ip addr add ${ownNetworkAddress(1)}/24 dev lo`;
  if (spawnSync('unshare', ['-rn', 'sh', '-c', setUp]).status !== 0) return undefined;
  const { status } = spawnSync(
    'unshare',
    [
      ...['-rn', 'sh', '-c', `${setUp} && exec "$0" "$@"`],
      ...[process.execPath, file, ...process.argv.slice(2)],
    ],
    { stdio: 'inherit', env: { ...process.env, [mark]: '1' } },
  );
  process.exit(status ?? 1);
}

/** Whether this process was run again by `enterOwnNetwork`. */
export function insideOwnNetwork(): boolean {
  return process.env[mark] !== undefined;
}

/** On the loopback interface each address of a network is one's own; `host` is 1 to 254. */
export function ownNetworkAddress(host: number): string {
  return `${network}.${host}`;
}
