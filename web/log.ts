/**
 * Where events go: a name and fields, no prose. JSON lines on standard error, or lines for people on a terminal.
 *
 * It lives here because the HTTP servers are what every long-running program has, and what logs most.
 */

export interface Logger {
  info(event: string, fields?: Record<string, unknown>): void;
  warn(event: string, fields?: Record<string, unknown>): void;
  error(event: string, fields?: Record<string, unknown>): void;
}

export type LogLevel = 'info' | 'warn' | 'error' | 'silent';

const rank: Record<LogLevel, number> = { info: 0, warn: 1, error: 2, silent: 3 };

/** Longest text of one field: an upstream's error may quote a whole page. */
export const logFieldMaxCharacters = 2_000;

export interface LoggerOptions {
  /** The least level that is written; `info` by default. */
  level?: LogLevel;
  /** For people (`true`) or as JSON; by default for people when standard error is a terminal. */
  human?: boolean;
  write?: (line: string) => void;
  clock?: () => number;
}

export function makeLogger(options: LoggerOptions = {}): Logger {
  const least = rank[options.level ?? 'info'];
  const human = options.human ?? process.stderr.isTTY === true;
  const write = options.write ?? ((line: string) => void process.stderr.write(line));
  const clock = options.clock ?? Date.now;
  const log = (level: 'info' | 'warn' | 'error') => {
    return (event: string, fields: Record<string, unknown> = {}): void => {
      if (rank[level] < least) return;
      const time = new Date(clock()).toISOString();
      write(human ? humanLine(time, level, event, fields) : jsonLine(time, level, event, fields));
    };
  };
  return { info: log('info'), warn: log('warn'), error: log('error') };
}

export const silentLogger: Logger = { info() {}, warn() {}, error() {} };

/** The first fields of a line are its own; a field of the same name cannot displace them. */
function jsonLine(time: string, level: string, event: string, fields: Record<string, unknown>): string {
  try {
    return `${JSON.stringify({ ...fields, time, level, event }, plain)}\n`;
  } catch {
    return `${JSON.stringify({ time, level, event, fields: 'not printable' })}\n`;
  }
}

function humanLine(time: string, level: string, event: string, fields: Record<string, unknown>): string {
  const words = Object.entries(fields).map(([name, value]) => `${name}=${humanValue(value)}`);
  const mark = level === 'info' ? '' : `${level.toUpperCase()} `;
  return `${[time.slice(11, 19), `${mark}${event}`, ...words].join(' ')}\n`;
}

function humanValue(value: unknown): string {
  if (value instanceof Error) return JSON.stringify(errorWords(value));
  // Control characters in a field must not reach a terminal, and a space would blur where it ends.
  if (typeof value === 'string' && /^[\x21-\x7e]+$/.test(value)) return value.slice(0, logFieldMaxCharacters);
  try {
    return JSON.stringify(value, plain) ?? String(value);
  } catch {
    return 'not printable';
  }
}

function plain(_name: string, value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value);
  if (typeof value === 'string') return value.slice(0, logFieldMaxCharacters);
  if (value instanceof Error) return errorWords(value);
  return value;
}

/** Message and causes; the stack is for the caller to add as a field where it helps. */
function errorWords(error: Error): string {
  const code = 'code' in error ? `${String(error.code)}: ` : '';
  const cause = error.cause instanceof Error ? ` (${errorWords(error.cause)})` : '';
  return `${code}${error.message}${cause}`.slice(0, logFieldMaxCharacters);
}
