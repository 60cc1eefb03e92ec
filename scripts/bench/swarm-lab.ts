/**
 * The laboratory of the swarm benchmark, inside a network namespace: a seeder on a bridge, clients behind links that the kernel keeps to a
 * rate, all of them told to begin at once, and asked how far they came when the time is up. Prints one JSON object.
 *
 *   swarm-lab.ts DIR MIB CLIENTS MIB_PER_SECOND SECONDS
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { printPublicKey } from '../../nar/signature.ts';
import { storeHashOf } from '../../nar/store-path.ts';
import { CacheBuilder } from '../../tests/helpers/cache-builder.ts';
import { startProgram, untilIngested } from '../../tests/helpers/program.ts';
import { narOfSize } from '../../tests/helpers/sized-nar.ts';
import type { SwarmClientResult, SwarmResult } from './swarm.ts';

const [dir = '', mibText, clientsText, rateText, secondsText] = process.argv.slice(2);
const sizeBytes = Number(mibText) * 1024 * 1024;
const clientCount = Number(clientsText);
const rateBits = Number(rateText) * 8 * 1024 * 1024;
const mebibyte = 1024 * 1024;

/** For starting and ending all of it, so that nothing is left running. */
const aroundMs = 5 * 60_000;
const fetchMs = Number(secondsText) * 1000;
const network = '10.78.0';
const clientFile = join(import.meta.dirname, 'swarm-client.ts');

setTimeout(() => {
  console.error('swarm: it took too long');
  process.exit(1);
}, fetchMs + aroundMs).unref();

run('ip link set lo up');
run('ip link add br0 type bridge');
run(`ip addr add ${network}.1/24 dev br0`);
run('ip link set br0 up');

const cache = await new CacheBuilder(join(dir, 'cache')).open();
const { compression, nar, narFile } = narOfSize(sizeBytes);
const built = await cache.add({ name: 'large', compression, nar, narFile });
const other = await cache.add({ name: 'other' });
const host = `${network}.1:0`;
const seeder = await startProgram([
  'seeder',
  ...['--data', join(dir, 'seeder'), '--source', cache.url, '--trusted-key', printPublicKey(cache.publicKey)],
  ...['--http', host, '--peers', host, '--initial-copies', '1'],
]);
const clients: Client[] = [];
try {
  await untilIngested(seeder, 2);
  const { catalog } = (await seeder.status()) as { catalog: { publicKey: string } };
  const hashes = [built, other].map(({ storePath }) => storeHashOf(storePath));
  const common = [seeder.url, catalog.publicKey, printPublicKey(cache.publicKey), ...hashes];
  for (let n = 0; n < clientCount; n++) clients.push(await startClient(n, common));
  const { swarm: before } = (await seeder.status()) as { swarm: { uploadedBytes: number } };
  const machine = machineTimes();
  const timeIsUp = setTimeout(() => {
    for (const client of clients) client.stop();
  }, fetchMs);
  const results = await Promise.all(clients.map((client) => client.fetch()));
  clearTimeout(timeIsUp);
  const { busy, all: total } = machineTimes();
  const { swarm } = (await seeder.status()) as { swarm: { uploadedBytes: number } };
  const all = results.reduce((sum, { uploadedBytes }) => sum + uploadedBytes, 0);
  const result: SwarmResult = {
    copies: (swarm.uploadedBytes - before.uploadedBytes) / sizeBytes,
    clients: results,
    exchangedCopies: all / sizeBytes,
    cpuSeconds: results.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0),
    machineShare: (busy - machine.busy) / (total - machine.all),
    cores: cpus().length,
  };
  console.log(JSON.stringify(result));
} finally {
  await Promise.all(clients.map((client) => client.end()));
  await seeder.stop();
}

interface Client {
  /** Until it has all, or is told to stop. */
  fetch(): Promise<SwarmClientResult>;
  stop(): void;
  end(): Promise<void>;
}

/** A client in a namespace of its own, which has nothing but a link to the bridge. */
async function startClient(n: number, common: readonly string[]): Promise<Client> {
  const address = `${network}.${n + 10}`;
  const data = join(dir, `client-${n}`);
  await mkdir(data);
  // It waits until its link is there.
  const script = `read go && ip link set lo up && ip addr add ${address}/24 dev eth0 && ip link set eth0 up && ${rate('eth0')} && exec "$0" "$@"`;
  const child = spawn(
    'unshare',
    ['-n', 'sh', '-c', script, process.execPath, clientFile, data, address, ...common],
    {
      stdio: ['pipe', 'pipe', 'inherit'],
    },
  );
  const exited = once(child, 'exit');
  const lines = createInterface({ input: child.stdout });
  await untilOwnNetwork(child);
  run(`ip link add v${n} type veth peer name p${n}`);
  run(`ip link set p${n} netns ${child.pid} name eth0`);
  run(`ip link set v${n} master br0`);
  run(rate(`v${n}`));
  run(`ip link set v${n} up`);
  const nextLine = async (): Promise<string> => {
    const line = await Promise.race([
      once(lines, 'line').then(([text]) => String(text)),
      exited.then(() => undefined),
    ]);
    if (line === undefined) throw new Error(`client ${n} ended`);
    return line;
  };
  const ready = nextLine();
  child.stdin.write('\n');
  await ready;
  return {
    async fetch() {
      const answer = nextLine();
      child.stdin.write('\n');
      const result: SwarmClientResult = JSON.parse(await answer);
      return result;
    },
    stop() {
      child.stdin.write('\n');
    },
    async end() {
      child.stdin.end();
      await exited;
    },
  };
}

/** Milliseconds of all cores since the machine started: those that anybody used, and all there were. */
function machineTimes(): { busy: number; all: number } {
  let [busy, all] = [0, 0];
  for (const { times } of cpus()) {
    const sum = Object.values(times).reduce((total, time) => total + time, 0);
    all += sum;
    busy += sum - times.idle;
  }
  return { busy, all };
}

/** `unshare` has made the namespace once the process is the shell. */
async function untilOwnNetwork(child: ChildProcess): Promise<void> {
  for (let tries = 0; tries < 1_000; tries++) {
    const own = spawnSync('readlink', ['/proc/self/ns/net', `/proc/${child.pid}/ns/net`]).stdout.toString();
    const [ours, theirs] = own.trim().split('\n');
    if (theirs !== undefined && ours !== theirs) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error('a client has no network of its own');
}

/** A queue of 50 ms at most, so that a link is no store of its own. */
function rate(device: string): string {
  return `tc qdisc add dev ${device} root tbf rate ${rateBits}bit burst ${mebibyte / 8} latency 50ms`;
}

function run(command: string): void {
  const { status, stderr } = spawnSync('sh', ['-c', command]);
  if (status !== 0) throw new Error(`${command}: ${stderr}`);
}
