/** Installs the real programs that tests run against, where that is possible. Never fails: tests skip what is missing. */

import { execFile, execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';

/** Debian package, and a command that shows that it is there. */
const programs: readonly (readonly [name: string, probe: readonly [string, ...string[]]])[] = [
  ['nix-bin', ['nix-store', '--version']],
  ['aria2', ['aria2c', '--version']],
  ['transmission-cli', ['transmission-cli', '--version']],
  ['rtorrent', ['rtorrent', '-h']],
  ['qbittorrent-nox', ['qbittorrent-nox', '--version']],
  ['nginx-light', ['nginx', '-v']],
  ['python3-libtorrent', ['/usr/bin/python3', '-c', 'import libtorrent']],
  ['opentracker', ['opentracker', '-h']],
  ['xz-utils', ['xz', '--version']],
  ['zstd', ['zstd', '--version']],
  ['bzip2', ['bzip2', '--help']],
  ['brotli', ['brotli', '--version']],
];

/** A machine without a network must not hold up the tests. */
const updateTimeoutMs = 60_000;
const installTimeoutMs = 300_000;
const aptOptions = [
  '-q',
  '-o',
  'Acquire::http::Timeout=10',
  '-o',
  'Acquire::https::Timeout=10',
  '-o',
  'Acquire::Retries=0',
];

type Programs = typeof programs;

/** What only `npm run interop` runs: larger, and slower to start. */
export const interoperationPrograms: Programs = [
  ['deluge-common', ['/usr/bin/python3', '-c', 'import deluge.core.daemon_entry']],
];

export async function installPrograms(say: (text: string) => void, more: Programs = []): Promise<void> {
  const missing = [...programs, ...more].filter(([, probe]) => !works(probe)).map(([name]) => name);
  if (missing.length === 0) return;
  const root = process.getuid?.() === 0;
  if (!root || !existsSync('/usr/bin/apt-get')) {
    say(`Not installed, so that some tests are skipped: ${missing.join(', ')}`);
    return;
  }
  say(`Installing for the tests: ${missing.join(', ')}`);
  const updated = await apt(['update'], updateTimeoutMs);
  const installed = await apt(['install', '-y', '--no-install-recommends', ...missing], installTimeoutMs);
  if (installed !== undefined)
    say(`They could not be installed, so that some tests are skipped: ${installed || updated}`);
}

function works([program, ...args]: readonly [string, ...string[]]): boolean {
  try {
    execFileSync(program, args, { stdio: 'ignore', timeout: 20_000 });
    return true;
  } catch {
    return false;
  }
}

/** The last line of what went wrong; undefined when nothing did. */
function apt(args: string[], timeoutMs: number): Promise<string | undefined> {
  // RUNLEVEL keeps packages from starting their services.
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  return new Promise((resolve) => {
    execFile(
      'apt-get',
      [...aptOptions, ...args],
      { env, timeout: timeoutMs, maxBuffer: 16 << 20 },
      (error, _, stderr) => {
        resolve(error === null ? undefined : (stderr.trim().split('\n').at(-1) ?? error.message));
      },
    );
  });
}
