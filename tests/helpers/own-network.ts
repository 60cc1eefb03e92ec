/**
 * A network namespace with nothing but a loopback interface, for real BitTorrent programs: whatever they announce or look for stays
 * inside. It has addresses outside 127.0.0.0/8, because Transmission takes no peer there.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';

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

/** A network of its own inside the namespace: a bridge, on which this process is `10.78.0.1`. */
export const bridgeAddress = '10.78.0.1';

export interface Machine {
  readonly address: string;
  /** With its zone. */
  readonly linkLocalAddress: string;
  /** What to put before a command so that it runs there. */
  readonly through: readonly string[];
  close(): Promise<void>;
}

/** Machines on one bridge, each in a namespace of its own with an address of IPv4 and a link-local one; only after `enterOwnNetwork`. */
export async function machinesOnBridge(count: number): Promise<Machine[]> {
  ip('link', 'add', 'bridge0', 'type', 'bridge', 'mcast_snooping', '0');
  ip('addr', 'add', `${bridgeAddress}/24`, 'dev', 'bridge0');
  ip('link', 'set', 'bridge0', 'up');
  const machines: Machine[] = [];
  for (let number = 2; number < count + 2; number++) machines.push(await machineOnBridge(number));
  return machines;
}

async function machineOnBridge(number: number): Promise<Machine> {
  const address = bridgeAddress.replace(/1$/, `${number}`);
  // The namespace lives as long as this process; the word tells that it is there.
  const keeper = spawn('unshare', ['-n', 'sh', '-c', 'echo there; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  await once(keeper.stdout, 'data');
  const through = ['nsenter', `--net=/proc/${keeper.pid}/ns/net`];
  const outside = `machine${number}`;
  ip('link', 'add', outside, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', `${keeper.pid}`);
  ip('link', 'set', outside, 'master', 'bridge0', 'up');
  const [program = '', ...rest] = through;
  // Without waiting whether somebody else has the link-local address.
  const setUp = [
    'ip link set lo up',
    'echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad || true',
    `ip addr add ${address}/24 dev eth0`,
    'ip link set eth0 up',
  ];
  run(program, [...rest, 'sh', '-c', setUp.join(' && ')]);
  const addresses = run(program, [...rest, 'ip', '-6', 'addr', 'show', 'dev', 'eth0', 'scope', 'link']);
  const linkLocal = /fe80[0-9a-f:]+/.exec(addresses)?.[0] ?? '';
  return {
    address,
    linkLocalAddress: `${linkLocal}%eth0`,
    through,
    async close() {
      const gone = once(keeper, 'exit');
      keeper.stdin.end();
      await gone;
    },
  };
}

function ip(...args: string[]): void {
  run('ip', args);
}

function run(program: string, args: string[]): string {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: ${stderr}`);
  return stdout;
}
