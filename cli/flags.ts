/**
 * Flags described once: parsed from the command line over a configuration file, checked, and shown in --help.
 *
 * A command's flags are a record of `Flag`s under their names; the configuration file has the same names as keys.
 * Everything that is wrong is a config-invalid whose message says what to write instead.
 */

import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { NarswarmError } from '../nar/errors.ts';
import { nearest } from './suggest.ts';
import { parseChoice } from './units.ts';

export interface Flag<T> {
  /** What the value is called in help; without one the flag is a switch. */
  readonly value?: string;
  readonly help: string;
  readonly repeats: boolean;
  /** What the flag means where no value follows it, and what a value after it can be. Switches of configuration files set it, too. */
  readonly bare?: { readonly text: string; readonly choices: readonly string[] };
  /** As shown in help. */
  readonly defaults: readonly string[];
  /** From the texts that were given; none when the flag is absent. Throws config-invalid. */
  parse(texts: readonly string[]): T;
}

export type Flags = Readonly<Record<string, Flag<unknown>>>;
export type FlagValues<F extends Flags> = { readonly [K in keyof F]: F[K] extends Flag<infer T> ? T : never };

interface ValueFlag<T> {
  value: string;
  help: string;
  parse(text: string): T;
}

export function toggle(help: string): Flag<boolean> {
  return { help, repeats: false, defaults: [], parse: (texts) => texts.at(-1) === 'true' };
}

export function optional<T>(flag: ValueFlag<T>): Flag<T | undefined> {
  const parse = ([text]: readonly string[]): T | undefined =>
    text === undefined ? undefined : flag.parse(text);
  return { ...flag, repeats: false, defaults: [], parse };
}

/** `fallback` is written as a user would write it; `shown` stands for it in help when it depends on the machine. */
export function withDefault<T>(flag: ValueFlag<T> & { fallback: string; shown?: string }): Flag<T> {
  const { value, help, fallback, shown = fallback } = flag;
  return { value, help, repeats: false, defaults: [shown], parse: ([text]) => flag.parse(text ?? fallback) };
}

export function required<T>(flag: ValueFlag<T>): Flag<T> {
  return {
    ...flag,
    repeats: false,
    defaults: [],
    parse([text]) {
      if (text === undefined) throw new NarswarmError('config-invalid', `is missing; write ${flag.value}`);
      return flag.parse(text);
    },
  };
}

/** A flag that may be given again and again. `fallback` holds when it is not given at all. */
export function many<T>(flag: ValueFlag<T> & { fallback?: readonly string[] }): Flag<T[]> {
  const { value, help, fallback = [] } = flag;
  return {
    value,
    help,
    repeats: true,
    defaults: fallback,
    parse: (texts) => (texts.length > 0 ? texts : fallback).map((text) => flag.parse(text)),
  };
}

/** One of a few words, of which `off` is the first; without a value it means the last. */
export function offTo<T extends string>(flag: {
  help: string;
  choices: readonly ['off', ...T[]];
}): Flag<'off' | T> {
  const { help, choices } = flag;
  const text = choices.at(-1) ?? 'off';
  const parse = ([given = 'off']: readonly string[]): 'off' | T =>
    parseChoice(given === 'true' ? text : given === 'false' ? 'off' : given, choices);
  return {
    value: choices.join('|'),
    help,
    repeats: false,
    defaults: ['off'],
    bare: { text, choices },
    parse,
  };
}

/** For values that are taken as they are. */
export function anyText(text: string): string {
  if (text === '') throw new NarswarmError('config-invalid', 'an empty value');
  return text;
}

export interface ParsedCommandLine<F extends Flags> {
  values: FlagValues<F>;
  positionals: string[];
  help: boolean;
  /** Flags that were given, on the command line or in the configuration file. */
  given: ReadonlySet<string>;
}

/** Throws config-invalid. With --help nothing else is looked at. */
export async function parseCommandLine<F extends Flags>(
  flags: F,
  args: readonly string[],
): Promise<ParsedCommandLine<F>> {
  const { texts, positionals } = readArguments(flags, args);
  const help = texts.has('help');
  const configFile = texts.get('config')?.[0];
  texts.delete('config');
  texts.delete('help');
  if (configFile !== undefined && !help) {
    for (const [name, value] of await readConfig(flags, configFile))
      if (!texts.has(name)) texts.set(name, value);
  }
  const values = new Map<string, unknown>();
  for (const [name, flag] of Object.entries(flags)) {
    if (!help) values.set(name, parseFlag(name, flag, texts.get(name) ?? []));
  }
  return {
    values: Object.fromEntries(values) as FlagValues<F>,
    positionals,
    help,
    given: new Set(texts.keys()),
  };
}

function parseFlag(name: string, flag: Flag<unknown>, texts: readonly string[]): unknown {
  try {
    return flag.parse(texts);
  } catch (cause) {
    if (!(cause instanceof Error)) throw cause;
    throw new NarswarmError('config-invalid', `--${name}: ${cause.message}`, { cause });
  }
}

interface Arguments {
  texts: Map<string, string[]>;
  positionals: string[];
}

function readArguments(flags: Flags, args: readonly string[]): Arguments {
  const known: Flags = { ...flags, ...sharedFlags };
  const options: Record<string, { type: 'string' | 'boolean'; short?: string; multiple: true }> = {};
  for (const [name, flag] of Object.entries(known)) {
    const short = name === 'help' ? { short: 'h' } : {};
    options[name] = { type: flag.value === undefined ? 'boolean' : 'string', multiple: true, ...short };
  }
  const { tokens } = parseArgs({
    args: withBareValues(known, args),
    options,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const texts = new Map<string, string[]>();
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value);
    if (token.kind !== 'option') continue;
    const flag = Object.hasOwn(known, token.name) ? known[token.name] : undefined;
    if (flag === undefined) throw unknownFlag(token.rawName, Object.keys(known));
    const before = texts.get(token.name) ?? [];
    if (before.length > 0 && !flag.repeats) {
      throw new NarswarmError('config-invalid', `${token.rawName} is given twice; it takes one value`);
    }
    texts.set(token.name, [...before, valueOfToken(token, flag)]);
  }
  return { texts, positionals };
}

/** Writes out what a flag means that no value of its own follows: the parser would take whatever comes next. */
function withBareValues(known: Flags, args: readonly string[]): string[] {
  const end = args.indexOf('--');
  return args.map((arg, index) => {
    const { bare } = (arg.startsWith('--') && known[arg.slice(2)]) || {};
    if (bare === undefined || (end >= 0 && index > end)) return arg;
    return bare.choices.includes(args[index + 1] ?? '') ? arg : `${arg}=${bare.text}`;
  });
}

interface OptionToken {
  rawName: string;
  value?: string | undefined;
  inlineValue?: boolean | undefined;
}

function valueOfToken({ rawName, value, inlineValue }: OptionToken, flag: Flag<unknown>): string {
  if (flag.value === undefined) {
    if (value === undefined || value === 'true' || value === 'false') return value ?? 'true';
    throw new NarswarmError('config-invalid', `${rawName} is a switch and takes no value`);
  }
  if (value === undefined)
    throw new NarswarmError('config-invalid', `${rawName} needs a value: ${rawName} ${flag.value}`);
  if (inlineValue !== true && value.startsWith('-') && value !== '-') {
    const hint = `${rawName} needs a value; if it is ${value}, write ${rawName}=${value}`;
    throw new NarswarmError('config-invalid', hint);
  }
  return value;
}

function unknownFlag(rawName: string, names: string[]): NarswarmError {
  const near = nearest(rawName.replace(/^-+/, ''), names);
  const hint = near === undefined ? '' : `; did you mean --${near}?`;
  return new NarswarmError('config-invalid', `there is no flag ${rawName}${hint}`);
}

/** The configuration file is no program's input but an administrator's: 1 MiB would be a mistake. */
const configMaxBytes = 1_048_576;

async function readConfig(flags: Flags, file: string): Promise<Map<string, string[]>> {
  const json = readJson(file);
  // Few runs have a configuration file, and zod takes longer to load than the rest of the command line.
  const { z } = await import('zod');
  const scalar = z.union([z.string(), z.number()], 'must be a text or a number');
  const shape: Record<
    string,
    import('zod').ZodType<string | number | boolean | (string | number)[] | undefined>
  > = {};
  for (const [name, flag] of Object.entries(flags)) {
    if (flag.value === undefined) shape[name] = z.boolean('must be true or false').optional();
    else if (flag.bare)
      shape[name] = z.union([z.string(), z.boolean()], 'must be a text, true or false').optional();
    else if (flag.repeats) shape[name] = z.array(scalar, 'must be a list').optional();
    else shape[name] = scalar.optional();
  }
  const result = z.strictObject(shape, 'must be an object').safeParse(json);
  if (!result.success) {
    const issues = result.error.issues.flatMap((issue) => describeIssue(issue, Object.keys(flags)));
    throw new NarswarmError('config-invalid', `${file}: ${issues.join('; ')}`);
  }
  const texts = new Map<string, string[]>();
  for (const [name, value] of Object.entries(result.data)) {
    if (value !== undefined) texts.set(name, (Array.isArray(value) ? value : [value]).map(String));
  }
  return texts;
}

interface ConfigIssue {
  code: string;
  path: PropertyKey[];
  message: string;
  keys?: string[];
}

function describeIssue(issue: ConfigIssue, names: string[]): string[] {
  const path = issue.path.map((step) => (typeof step === 'number' ? `[${step}]` : String(step))).join('');
  if (issue.code !== 'unrecognized_keys') return [`${path === '' ? 'the file' : path} ${issue.message}`];
  return (issue.keys ?? []).map((key) => {
    const near = nearest(key, names);
    return `unknown key ${JSON.stringify(path + key)}${near === undefined ? '' : `, did you mean ${JSON.stringify(near)}?`}`;
  });
}

function readJson(file: string): unknown {
  try {
    const bytes = readFileSync(file);
    if (bytes.length > configMaxBytes) throw new Error(`longer than ${configMaxBytes} bytes`);
    return JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new NarswarmError('config-invalid', `--config: cannot read ${file}: ${why}`, { cause });
  }
}

/** What every command takes. */
export const sharedFlags = {
  config: optional({
    value: 'FILE',
    help: 'JSON object with these flags as keys, lists for those that may be repeated; the command line overrides it',
    parse: anyText,
  }),
  help: toggle('show this'),
} as const satisfies Flags;
