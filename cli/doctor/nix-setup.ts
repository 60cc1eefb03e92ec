/** How Nix is set up on this machine: as Nix itself says it, or as far as its configuration files do. */

import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';

/** Nix answers within milliseconds, or on a busy machine within seconds. */
const commandTimeoutMs = 30_000;
/** Files that include each other go no deeper than this. */
const includesMax = 5;

export interface NixSetup {
  /** As in `2.31.2`; missing when Nix does not run. */
  version?: string;
  /** Where the settings come from. */
  source: 'nix' | 'files';
  /** By name; lists as their words. */
  settings: ReadonlyMap<string, string>;
  /** Of the configuration of the whole machine, the one that the daemon goes by. */
  machineFile: { path: string; text: string | undefined };
  storeDir?: string;
  /** Of the file that `netrc-file` names, if it can be read. */
  netrcText?: string | undefined;
}

export type Env = Readonly<Record<string, string | undefined>>;

/** `undefined` when there is neither a Nix nor a nix.conf. */
export async function readNixSetup(env: Env): Promise<NixSetup | undefined> {
  const path = join(env.NIX_CONF_DIR ?? '/etc/nix', 'nix.conf');
  const machineFile = { path, text: await readText(path) };
  const version = /\(.*\) ([\d.]+)/.exec((await runNix(['--version'], env)) ?? '')?.[1];
  const shown = version === undefined ? undefined : await shownSettings(env);
  if (shown !== undefined) {
    const storeDir = await storeDirOf(env);
    const netrcText = await readText(shown.get('netrc-file') ?? '');
    return {
      ...(version !== undefined && { version }),
      ...{ source: 'nix', settings: shown, machineFile, netrcText },
      ...(storeDir !== undefined && { storeDir }),
    };
  }
  const own = join(env.XDG_CONFIG_HOME ?? join(env.HOME ?? homedir(), '.config'), 'nix', 'nix.conf');
  const files = [machineFile.path, ...(env.NIX_USER_CONF_FILES?.split(':') ?? [own])];
  const settings = new Map<string, string>();
  let found = false;
  for (const file of files) found = (await readSettings(file, settings, 0)) || found;
  if (!found && version === undefined) return undefined;
  return { ...(version !== undefined && { version }), source: 'files', settings, machineFile };
}

/** The words of a list. */
export function wordsOf({ settings }: NixSetup, name: string): string[] {
  return (settings.get(name) ?? '').split(/\s+/).filter((word) => word !== '');
}

/** It was called `show-config` before Nix 2.20. */
async function shownSettings(env: Env): Promise<Map<string, string> | undefined> {
  for (const command of [['config', 'show'], ['show-config']]) {
    const json = await runNix(['--extra-experimental-features', 'nix-command', ...command, '--json'], env);
    if (json === undefined) continue;
    const settings = parseShown(json);
    if (settings !== undefined) return settings;
  }
  return undefined;
}

function parseShown(json: string): Map<string, string> | undefined {
  try {
    const settings = new Map<string, string>();
    for (const [name, setting] of Object.entries(JSON.parse(json) as Record<string, { value?: unknown }>)) {
      const value = setting?.value;
      if (Array.isArray(value)) settings.set(name, value.map(String).join(' '));
      else if (value !== undefined && value !== null) settings.set(name, String(value));
    }
    return settings;
  } catch {
    return undefined;
  }
}

async function storeDirOf(env: Env): Promise<string | undefined> {
  const printed = await run('nix-instantiate', ['--eval', '-E', 'builtins.storeDir'], env);
  return /^"(\/.*)"\s*$/.exec(printed ?? '')?.[1];
}

/** False when the file is not there. */
async function readSettings(file: string, settings: Map<string, string>, depth: number): Promise<boolean> {
  const text = await readText(file);
  if (text === undefined) return false;
  for (const line of text.split('\n')) {
    const words = line.replace(/#.*/, '').trim();
    const included = /^!?include\s+(\S+)$/.exec(words)?.[1];
    if (included !== undefined && depth < includesMax)
      await readSettings(resolve(dirname(file), included), settings, depth + 1);
    const [, extra, name, value] = /^(extra-)?([a-z0-9-]+)\s*=\s*(.*)$/.exec(words) ?? [];
    if (name === undefined || value === undefined) continue;
    settings.set(name, extra === undefined ? value : `${settings.get(name) ?? ''} ${value}`.trim());
  }
  return true;
}

async function readText(file: string): Promise<string | undefined> {
  return readFile(file, 'utf8').catch(() => undefined);
}

function runNix(args: string[], env: Env): Promise<string | undefined> {
  return run('nix', args, env);
}

/** Standard output; `undefined` when the program is not there or fails. */
function run(program: string, args: string[], env: Env): Promise<string | undefined> {
  return new Promise((resolved) => {
    execFile(program, args, { timeout: commandTimeoutMs, env, maxBuffer: 8 << 20 }, (error, stdout) =>
      resolved(error === null ? stdout : undefined),
    );
  });
}
