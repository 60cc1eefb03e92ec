/**
 * A network namespace with nothing but a loopback interface, for tests with real BitTorrent programs: whatever they announce or look
 * for stays inside. It has a second address, because Transmission takes no peer on 127.0.0.0/8.
 */
import { spawnSync } from 'node:child_process';

const mark = 'NARSWARM_TEST_OWN_NETWORK';
const address = '10.77.0.1';

/**
 * The address to use inside the namespace. Outside, the calling test file is run again inside, and this process ends with its status;
 * `undefined` where namespaces are not to be had.
 */
export function enterOwnNetwork(testFile: string): string | undefined {
  if (process.env[mark] !== undefined) return address;
  const setUp = `ip link set lo up && ip addr add ${address}/32 dev lo`;
  if (spawnSync('unshare', ['-rn', 'sh', '-c', setUp]).status !== 0) return undefined;
  const { status } = spawnSync(
    'unshare',
    ['-rn', 'sh', '-c', `${setUp} && exec "$0" "$@"`, process.execPath, testFile],
    { stdio: 'inherit', env: { ...process.env, [mark]: '1' } },
  );
  process.exit(status ?? 1);
}
