#!/usr/bin/env node
/** The `narswarm` program: picks the command, gives it the process, and turns what it says into an exit status. */

import { readFileSync } from 'node:fs';
import { isNarswarmError, NarswarmError } from '../nar/errors.ts';
import type { CommandIo } from './command.ts';
import { type CommandEntry, commands } from './commands.ts';
import { keepCompiled } from './compile-cache.ts';
import { printProgramHelp } from './help.ts';
import { listenForSignals, type Signals } from './signals.ts';
import { nearest } from './suggest.ts';

const exitFailure = 1;
const exitUsage = 2;

process.exitCode = await main(process.argv.slice(2));
await Promise.all([flushed(process.stdout), flushed(process.stderr)]);
// Whatever a broken close left open does not keep a finished program alive.
process.exit();

async function main(args: readonly string[]): Promise<number> {
  guardProcess();
  const [name, ...rest] =
    args[0] === 'help' ? [args[1] ?? '--help', ...(args[1] === undefined ? [] : ['--help'])] : args;
  const [entry, given] = commandOf(name, rest);
  const signals = listenForSignals();
  try {
    if (name === '--version') return print(`narswarm ${version()}\n`);
    if (name === '--help' || name === '-h') return print(printProgramHelp(commands, process.stdout.columns));
    if (name === undefined) {
      process.stderr.write(printProgramHelp(commands, process.stderr.columns));
      return exitUsage;
    }
    if (entry === undefined) throw unknownCommand(name);
    keepCompiled(process.env);
    const { command } = await entry.load();
    return await command.main(given, processIo(signals));
  } catch (error) {
    if (isNarswarmError(error, 'config-invalid')) {
      const command = entry === undefined ? '' : ` ${entry.name}`;
      process.stderr.write(`narswarm${command}: ${error.message}\nTry \`narswarm${command} --help\`.\n`);
      return exitUsage;
    }
    process.stderr.write(
      signals.signal.aborted ? 'narswarm: interrupted\n' : `narswarm: ${describe(error)}\n`,
    );
    return exitFailure;
  } finally {
    signals.close();
  }
}

/** `mirror report` is another way to write `report`: of a mirror it is asked most. */
function commandOf(
  name: string | undefined,
  args: readonly string[],
): [entry: CommandEntry | undefined, args: readonly string[]] {
  const isReport = name === 'mirror' && args[0] === 'report';
  const wanted = isReport ? 'report' : name;
  return [commands.find((command) => command.name === wanted), isReport ? args.slice(1) : args];
}

function processIo({ signal, serving }: Signals): CommandIo {
  return {
    out: (text) => void process.stdout.write(text),
    note: (text) => void process.stderr.write(text),
    noteIsTerminal: process.stderr.isTTY === true,
    columns: process.stdout.columns,
    env: process.env,
    signal,
    serving,
  };
}

function guardProcess(): void {
  // `narswarm … | head` closes our output early. A server goes on, a command ends with its own exit status.
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
    });
  }
  const die = (error: unknown): void => {
    process.stderr.write(`narswarm: unexpected: ${describe(error)}\n`, () => process.exit(exitFailure));
  };
  process.on('uncaughtException', die);
  process.on('unhandledRejection', die);
  // Node prints that node:sqlite is experimental; whoever runs narswarm can do nothing about it.
  process.removeAllListeners('warning');
  process.on('warning', (warning) => {
    if (warning.name !== 'ExperimentalWarning')
      process.stderr.write(`narswarm: ${warning.name}: ${warning.message}\n`);
  });
}

function unknownCommand(name: string): NarswarmError {
  const words = commands.map((command) => command.name);
  if (name.startsWith('-'))
    return new NarswarmError(
      'config-invalid',
      `the command comes first, then its flags: ${words.join(', ')}`,
    );
  const near = nearest(name, words);
  const hint = near === undefined ? `; there are ${words.join(', ')}` : `; did you mean ${near}?`;
  return new NarswarmError('config-invalid', `there is no command ${JSON.stringify(name)}${hint}`);
}

/** One line: the message and its causes. NARSWARM_TRACE=1 gives the stack instead. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (process.env.NARSWARM_TRACE === '1') return error.stack ?? error.message;
  const cause =
    error.cause instanceof Error && error.cause.message !== '' ? ` (${describe(error.cause)})` : '';
  return `${error.message.split('\n')[0]}${cause}`;
}

function version(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  const found =
    manifest !== null && typeof manifest === 'object' && 'version' in manifest ? manifest.version : undefined;
  return String(found);
}

function print(text: string): number {
  process.stdout.write(text);
  return 0;
}

/** A pipe may still hold text when the program is done; a closed one never takes it. */
function flushed(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    if (stream.destroyed || stream.writableLength === 0) return resolve();
    stream.write('', () => resolve());
  });
}
