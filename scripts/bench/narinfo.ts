/**
 * How many narinfos of a view a client answers in a second, over connections that stay open as Nix keeps them: each path for the first time, when
 * what is given out must also be written down, and again. The client is a process of its own on one core, the load comes from another one.
 */

import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { segmentName } from '../../catalog/segment.ts';
import { printPublicKey } from '../../nar/signature.ts';
import { logKey, MadeLog } from '../../tests/catalog/made-log.ts';
import { type Program, startProgram, until } from '../../tests/helpers/program.ts';
import { madeRecords } from './follow-log.ts';
import { cpuSecondsOf } from './process-cost.ts';
import type { Row } from './table.ts';

const viewName = 'made-view';
/** Store paths of the view: a NixOS system with a desktop, and more than are kept in memory. */
const usualPaths = 4_000;
const manyPaths = 20_000;
/** Connections, as Nix's http-connections. */
const connections = 25;
/** Requests for what was asked for before. */
const againRequests = 64_000;
const goalPerSecond = 10_000;
/** Before this process is kept on one. */
const cores = availableParallelism();

export async function narInfo({ dir }: { dir: string }): Promise<Row[]> {
  const rows: Row[] = [];
  for (const paths of [usualPaths, manyPaths])
    rows.push(...(await narInfosOf(paths, join(dir, String(paths)))));
  return rows;
}

async function narInfosOf(paths: number, dir: string): Promise<Row[]> {
  const again = Math.floor(againRequests / paths);
  const log = new MadeLog();
  log.time = Math.floor(Date.now() / 1000);
  const records = Array.from({ length: paths }, (_none, number) => madeRecords(number));
  log.views.push({ name: viewName, paths, ...(await log.put(records.flat())) });
  const names = records.map(([, narInfoRecord]) => narInfoName(narInfoRecord));
  const server = await serve(log);
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const flags = ['--catalog', url, '--catalog-key', printPublicKey(logKey.publicKey), '--view', viewName];
  const client = await startProgram(
    ['client', '--data', join(dir, 'client'), '--http', '127.0.0.1:0', '--upstream', url].concat(flags),
  );
  try {
    const pinned = await onOneCore(client);
    await until(async () => JSON.stringify(await client.status()).includes(`"paths":${paths}`));
    const first = await ask(client, names);
    const more = await ask(client, Array<string[]>(again).fill(names).flat());
    return [
      row(`${paths} narinfos of a view, for the first time`, first, pinned),
      row(`the same again, ${again} times`, more, pinned),
    ];
  } finally {
    await client.stop();
    server.close();
    server.closeAllConnections();
  }
}

interface Asked {
  perSecond: number;
  /** CPU seconds of the client in a second. */
  clientCpu: number;
  /** The same of the process that asks. */
  ownCpu: number;
}

/** Each connection asks for the next name as soon as its last answer is whole. */
async function ask(client: Program, names: readonly string[]): Promise<Asked> {
  const pid = client.process.pid ?? 0;
  const cpuBefore = cpuSecondsOf(pid);
  const ownBefore = process.cpuUsage();
  const startedMs = performance.now();
  let next = 0;
  const { hostname, port } = new URL(client.url);
  await Promise.all(
    Array.from({ length: connections }, async () => {
      const socket = connect(Number(port), hostname).setNoDelay();
      let missing = 0;
      const send = (): void => {
        const name = names[next++];
        if (name === undefined) socket.end();
        else socket.write(`GET /${name} HTTP/1.1\r\nHost: ${hostname}\r\n\r\n`);
      };
      socket.on('connect', send);
      socket.on('data', (chunk: Buffer) => {
        missing = missing > 0 ? missing - chunk.length : bytesMissing(chunk);
        if (missing === 0) send();
      });
      await once(socket, 'close');
    }),
  );
  const seconds = (performance.now() - startedMs) / 1000;
  const own = process.cpuUsage(ownBefore);
  return {
    perSecond: names.length / seconds,
    clientCpu: (cpuSecondsOf(pid) - cpuBefore) / seconds,
    ownCpu: (own.user + own.system) / 1e6 / seconds,
  };
}

/** Of an answer that begins with this chunk, which has all of its head: how many bytes are still to come. */
function bytesMissing(chunk: Buffer): number {
  const headEnd = chunk.indexOf('\r\n\r\n') + 4;
  const head = chunk.toString('latin1', 0, headEnd);
  if (!head.startsWith('HTTP/1.1 200 ')) throw new Error(`an answer that is none: ${head.slice(0, 80)}`);
  return headEnd + Number(/content-length: ([0-9]+)/i.exec(head)?.[1]) - chunk.length;
}

function narInfoName(record: Buffer): string {
  const [, storeHash] = /^StorePath: \/nix\/store\/([0-9a-z]{32})-/m.exec(record.toString()) ?? [];
  return `${storeHash}.narinfo`;
}

/** The files of the catalog; for all else, `/resolve` too, it has nothing. */
async function serve(log: MadeLog): Promise<Server> {
  const head = log.head();
  const server = createServer((request, response) => {
    const [view] = log.views;
    if (request.url === '/catalog/head') response.end(head);
    else if (view !== undefined && request.url === `/catalog/${segmentName(view.sha256)}`)
      response.end(log.files.get(view.sha256));
    else response.writeHead(404).end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

/** Keeps all threads of the client on one core and this process off it, where the system lets us. */
async function onOneCore(client: Program): Promise<boolean> {
  if (cores < 2) return false;
  const pin = (core: number, pid: number | undefined) =>
    promisify(execFile)('taskset', ['-a', '-p', '-c', String(core), String(pid)]);
  try {
    await pin(0, client.process.pid);
    await pin(1, process.pid);
    return true;
  } catch {
    return false;
  }
}

function row(what: string, { perSecond, clientCpu, ownCpu }: Asked, pinned: boolean): Row {
  const share = (cpu: number): string => `${(cpu * 100).toFixed(0)} %`;
  const where = pinned ? 'all its threads on one core' : 'not kept on one core';
  return {
    what,
    ours: `${perSecond.toFixed(0)} a second`,
    theirs: '',
    goal: { text: `≥ ${goalPerSecond} a second`, met: perSecond >= goalPerSecond },
    note: `${connections} connections; CPU of the client ${share(clientCpu)}, ${where}: ${(perSecond / clientCpu).toFixed(0)} a second of CPU; of the load ${share(ownCpu)}`,
  };
}
