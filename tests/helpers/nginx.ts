/** A real nginx in front of a directory, with a log of how many bytes each request took. */

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** Longest wait for nginx to listen. */
const readyTimeoutMs = 10_000;
/** Attempts to find a port that nobody takes between our look and nginx's. */
const portAttempts = 5;
const pollMs = 20;
/** Longest wait for a request to be logged. */
const logTimeoutMs = 5_000;
/** The log counts as complete when it has not grown for this long. */
const logQuietMs = 200;

export interface NginxRequest {
  method: string;
  /** Path and query as asked. */
  uri: string;
  status: number;
  /** Bytes of the body that were sent, also when the reader went away. */
  bodyBytes: number;
  range: string | undefined;
}

export interface Nginx {
  readonly url: string;
  readonly port: number;
  /** The access log so far: `"GET /path HTTP/1.1" 206 1234 "bytes=5-"`, a line for each request that has ended. */
  log(): Promise<string>;
  /** The same, read. */
  requests(): Promise<NginxRequest[]>;
  /** Waits until that many requests have ended; throws after 5 s. */
  waitForRequests(count: number): Promise<NginxRequest[]>;
  /** Bytes of bodies that were sent for paths below `/nar/`, once the log has stopped growing. */
  narBytesSent(): Promise<number>;
  /** Ends it and removes its files; the log can still be read. May be called twice. */
  stop(): Promise<void>;
}

export interface NginxOptions {
  /** Further directives of the server block. */
  directives?: string;
  /** 0, the default, for a free one. A given one is for starting again at the same place. */
  port?: number;
}

/** Why nginx cannot be used here, or `false`: the shape of tap's `skip`. */
export function nginxMissing(): string | false {
  try {
    execFileSync('nginx', ['-v'], { stdio: 'ignore' });
    return false;
  } catch {
    return 'nginx is not installed';
  }
}

/** Serves `directory` at `/`. */
export async function startNginx(directory: string, options: NginxOptions = {}): Promise<Nginx> {
  const { directives = '', port = 0 } = options;
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await startOn(directory, directives, port === 0 ? await freePort() : port);
    } catch (error) {
      if (port !== 0 || attempt === portAttempts) throw error;
    }
  }
}

async function startOn(directory: string, directives: string, port: number): Promise<Nginx> {
  const home = await mkdtemp(join(tmpdir(), 'narswarm-nginx-'));
  const root = process.getuid?.() === 0;
  const file = join(home, 'nginx.conf');
  await writeFile(file, configuration({ home, port, directory, directives, root }));
  const child = spawn('nginx', ['-p', home, '-c', file, '-e', join(home, 'error.log')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const exited = once(child, 'exit');
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  let lastLog = '';
  let stopping: Promise<void> | undefined;
  const readLog = async (): Promise<string> => {
    if (stopping === undefined) lastLog = await readFile(join(home, 'access.log'), 'utf8');
    return lastLog;
  };
  const stopAll = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
    await exited;
    lastLog = await readFile(join(home, 'access.log'), 'utf8').catch(() => '');
    await rm(home, { recursive: true, force: true });
  };
  const stop = (): Promise<void> => {
    stopping ??= stopAll();
    return stopping;
  };
  try {
    await ready(child, port);
  } catch (cause) {
    await stop();
    throw new Error(`nginx did not start: ${errors}`, { cause });
  }
  const requests = async (): Promise<NginxRequest[]> => parseAccessLog(await readLog());
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    log: readLog,
    requests,
    async waitForRequests(count) {
      const deadline = Date.now() + logTimeoutMs;
      for (;;) {
        const seen = await requests();
        if (seen.length >= count) return seen;
        if (Date.now() > deadline)
          throw new Error(`${seen.length} requests in nginx's log instead of ${count}`);
        await sleep(pollMs);
      }
    },
    async narBytesSent() {
      // A request is logged when its last byte is out, which may be after its reader has gone on.
      for (let before = await readLog(); ; before = lastLog) {
        await sleep(logQuietMs);
        if ((await readLog()) !== before) continue;
        const nars = parseAccessLog(lastLog).filter(({ uri }) => uri.startsWith('/nar/'));
        return nars.reduce((sum, { bodyBytes }) => sum + bodyBytes, 0);
      }
    },
    stop,
  };
}

function configuration(options: {
  home: string;
  port: number;
  directory: string;
  directives: string;
  root: boolean;
}): string {
  const { home, port, directory, directives, root } = options;
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  return `
daemon off;
pid ${home}/nginx.pid;
worker_processes 1;
# As root, nginx would change to a user who may not read the temporary directories of the tests.
${root ? 'user root;' : ''}
events { worker_connections 1024; }
http {
  types { text/x-nix-narinfo narinfo; application/x-nix-nar nar; }
  default_type application/octet-stream;
  sendfile on;
  tcp_nodelay on;
  keepalive_requests 100000;
  log_format fields '"$request" $status $body_bytes_sent "$http_range"';
  access_log ${home}/access.log fields;
  ${temporary.map((name) => `${name}_temp_path ${home}/${name};`).join('\n  ')}
  server {
    listen 127.0.0.1:${port} backlog=1024;
    root ${directory};
    ${directives}
  }
}
`;
}

function parseAccessLog(text: string): NginxRequest[] {
  return text.split('\n').flatMap((line) => {
    const match = /^"(\S+) (\S+) [^"]*" (\d+) (\d+) "([^"]*)"$/.exec(line);
    if (match === null) return [];
    const [, method = '', uri = '', status, bodyBytes, range = ''] = match;
    return [
      {
        method,
        uri,
        status: Number(status),
        bodyBytes: Number(bodyBytes),
        range: range === '-' ? undefined : range,
      },
    ];
  });
}

/** Ready when it takes a connection. */
async function ready(child: ChildProcess, port: number): Promise<void> {
  const deadline = Date.now() + readyTimeoutMs;
  for (;;) {
    if (child.exitCode !== null || Date.now() > deadline) throw new Error(`ended with ${child.exitCode}`);
    const socket = connect(port, '127.0.0.1');
    try {
      await once(socket, 'connect');
      return;
    } catch {
      await sleep(pollMs);
    } finally {
      socket.destroy();
    }
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}
