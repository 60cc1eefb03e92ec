/** Sizes, rates, times and addresses as people write them on the command line, and as they like to read them. */

import { isIPv4, isIPv6 } from 'node:net';
import { NarswarmError } from '../nar/errors.ts';

export interface HostPort {
  /** A name or an address; an IPv6 address without its brackets. */
  host: string;
  /** 0 lets the system choose. */
  port: number;
}

const sizeUnits: ReadonlyMap<string, number> = new Map([
  ['B', 1],
  ['KiB', 2 ** 10],
  ['MiB', 2 ** 20],
  ['GiB', 2 ** 30],
  ['TiB', 2 ** 40],
  ['PiB', 2 ** 50],
]);

/** In milliseconds. */
const timeUnits: ReadonlyMap<string, number> = new Map([
  ['ms', 1],
  ['s', 1000],
  ['min', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
]);

/** Bytes of `10GiB`, `1.5 MiB`, `4096`. Throws config-invalid. */
export function parseSize(text: string): number {
  return Math.round(
    parseQuantity(text, sizeUnits, 'a size', 'a number with B, KiB, MiB, GiB or TiB, for instance 10GiB'),
  );
}

/** Bytes per second of `10MiB/s`. Throws config-invalid. */
export function parseRate(text: string): number {
  const hint = 'a size per second, for instance 10MiB/s';
  const match = /^(.*?)\s*\/\s*s$/.exec(text.trim());
  if (match?.[1] === undefined) throw invalid(text, 'a rate', hint);
  return Math.round(parseQuantity(match[1], sizeUnits, 'a rate', hint));
}

/** A rate to upload at, in bytes per second: less than a block a minute would be none. Throws config-invalid. */
export function parseUploadRate(text: string): number {
  const rate = parseRate(text);
  if (rate < 1024) throw invalid(text, 'a rate to upload at', 'at least 1KiB/s');
  return rate;
}

/** Milliseconds of `30s`, `10min`, `1.5h`, `7d`, `500ms`. A bare number is refused: it could mean anything. */
export function parseDuration(text: string): number {
  const hint = 'a number with ms, s, min, h or d, for instance 10min';
  if (/^[\d.]+$/.test(text.trim())) throw invalid(text, 'a time', hint);
  return Math.round(parseQuantity(text, timeUnits, 'a time', hint));
}

/** `HOST:PORT`; an IPv6 address stands in brackets. Throws config-invalid. */
export function parseHostPort(text: string): HostPort {
  const hint = 'HOST:PORT, for instance 127.0.0.1:8420 or [::1]:8420; port 0 takes a free one';
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*)):(\d{1,5})$/.exec(text.trim());
  const [, bracketed, plain, digits] = match ?? [];
  const port = Number(digits);
  if (digits === undefined || port > 65_535) throw invalid(text, 'an address', hint);
  if (bracketed !== undefined && isIPv6(bracketed)) return { host: bracketed, port };
  if (plain !== undefined && (isIPv4(plain) || isHostName(plain))) return { host: plain, port };
  throw invalid(text, 'an address', hint);
}

/** A host name or address without a port. Throws config-invalid. */
export function parseHost(text: string): string {
  const host = text.trim().replace(/^\[(.*)\]$/, '$1');
  if (isIPv4(host) || isIPv6(host) || isHostName(host)) return host;
  throw invalid(text, 'a host', 'a name or an address without a port, for instance seeder.example');
}

/** A whole number within bounds. Throws config-invalid. */
export function parseCount(text: string, min: number, max: number): number {
  const count = Number(text);
  if (!/^\d{1,15}$/.test(text.trim()) || count < min || count > max) {
    throw invalid(text, 'a number', `a whole number from ${min} to ${max}`);
  }
  return count;
}

/** A URL with one of these protocols, as in `https:`. Throws config-invalid. */
export function parseUrl(text: string, protocols: readonly string[]): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url !== undefined && protocols.includes(url.protocol)) return url.href;
  throw invalid(text, 'a URL', protocols.map((protocol) => `${protocol}//…`).join(' or '));
}

/** One of a few words. Throws config-invalid. */
export function parseChoice<T extends string>(text: string, choices: readonly T[]): T {
  const found = choices.find((choice) => choice === text);
  if (found === undefined) throw invalid(text, 'one of the choices', choices.join(', '));
  return found;
}

export function printHostPort({ host, port }: HostPort): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Three digits or so and a unit: `1.5 MiB`. */
export function printSize(bytes: number): string {
  let shown = `${bytes} B`;
  for (const [unit, size] of sizeUnits)
    if (size > 1 && bytes >= size) shown = `${threeDigits(bytes / size)} ${unit}`;
  return shown;
}

export function printRate(bytesPerSecond: number): string {
  return `${printSize(Math.round(bytesPerSecond))}/s`;
}

/** `0.4 s`, `12 s`, `3.5 min`. */
export function printDuration(ms: number): string {
  let shown = `${Math.round(ms)} ms`;
  for (const [unit, size] of timeUnits)
    if (size > 1 && ms >= size) shown = `${threeDigits(ms / size)} ${unit}`;
  return shown;
}

function threeDigits(value: number): string {
  return value >= 100 ? value.toFixed(0) : Number(value.toPrecision(3)).toString();
}

function parseQuantity(text: string, units: ReadonlyMap<string, number>, what: string, hint: string): number {
  const match = /^(\d{1,15}(?:\.\d{1,9})?)\s*([A-Za-z]*)$/.exec(text.trim());
  const [, digits, unit = ''] = match ?? [];
  if (digits === undefined) throw invalid(text, what, hint);
  const factor = unit === '' ? 1 : unitFactor(units, unit);
  const value = Number(digits) * (factor ?? Number.NaN);
  if (!Number.isFinite(value) || value > Number.MAX_SAFE_INTEGER) throw invalid(text, what, hint);
  return value;
}

/** `gib` is read as `GiB`; `GB` and `G` are not, because people disagree about them. */
function unitFactor(units: ReadonlyMap<string, number>, unit: string): number | undefined {
  for (const [name, factor] of units) if (name.toLowerCase() === unit.toLowerCase()) return factor;
  return undefined;
}

function isHostName(text: string): boolean {
  const label = '[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?';
  // Names of digits and dots alone are misspelt addresses.
  return (
    text.length <= 253 && new RegExp(`^${label}(?:\\.${label})*\\.?$`).test(text) && !/^[\d.]+$/.test(text)
  );
}

function invalid(text: string, what: string, hint: string): NarswarmError {
  return new NarswarmError('config-invalid', `${JSON.stringify(text)} is not ${what}; write ${hint}`);
}
