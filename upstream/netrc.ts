/**
 * netrc files, as Nix's `netrc-file` takes them: `machine HOST login NAME password SECRET`, over as many lines as one likes, and `default` for all
 * other hosts. Source: curl, `lib/netrc.c`: words in double quotes with backslashes, comments from `#` at the beginning of a word to the end
 * of its line, the first entry of a host counts.
 */

import { NarswarmError } from '../nar/errors.ts';

/** A few lines for each host. */
export const netrcMaxBytes = 1024 * 1024;

export interface NetrcEntry {
  /** In lower case; `undefined` for `default`. */
  readonly machine: string | undefined;
  readonly login: string;
  readonly password: string;
}

/** Throws `config-invalid` that names the file and the line, and never what is in it: it may be a password. */
export function parseNetrc(text: string, file: string): NetrcEntry[] {
  const words = new Words(text, file);
  const entries: NetrcEntry[] = [];
  let open: { -readonly [K in keyof NetrcEntry]: NetrcEntry[K] } | undefined;
  for (let word = words.next(); word !== undefined; word = words.next()) {
    if (word === 'machine' || word === 'default') {
      const machine = word === 'machine' ? words.value('the name of a machine').toLowerCase() : undefined;
      open = { machine, login: '', password: '' };
      entries.push(open);
    } else if (word === 'macdef') words.skipMacro();
    else if (word !== 'login' && word !== 'password' && word !== 'account') {
      throw words.invalid('one of machine, default, login, password, account and macdef belongs here');
    } else {
      if (open === undefined) throw words.invalid(`a ${word} before the first machine`);
      const value = words.value(`what the ${word} is`);
      if (word !== 'account') open[word] = value;
    }
  }
  return entries;
}

/** Of the first entry for the host, or the default before it. */
export function netrcEntryFor(entries: readonly NetrcEntry[], host: string): NetrcEntry | undefined {
  const name = host.toLowerCase();
  return entries.find(({ machine }) => machine === undefined || machine === name);
}

/** The value of the header `Authorization`. */
export function basicAuthorization({ login, password }: NetrcEntry): string {
  return `Basic ${Buffer.from(`${login}:${password}`).toString('base64')}`;
}

const escapes: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t' };

/** The words of the file, with the number of the line that the last one is in. */
class Words {
  readonly #lines: string[];
  readonly #file: string;
  #line = 0;
  #at = 0;

  constructor(text: string, file: string) {
    this.#file = file;
    this.#lines = text.split('\n').map((line) => line.replace(/\r$/, ''));
  }

  next(): string | undefined {
    for (; this.#line < this.#lines.length; this.#line++, this.#at = 0) {
      const line = this.#lines[this.#line] ?? '';
      while (/[ \t]/.test(line.charAt(this.#at))) this.#at++;
      if (this.#at < line.length && line.charAt(this.#at) !== '#') return this.#word(line);
    }
    return undefined;
  }

  value(what: string): string {
    const word = this.next();
    if (word !== undefined) return word;
    this.#line = this.#lines.length - 1;
    throw this.invalid(`the file ends where it should say ${what}`);
  }

  /** Up to the next empty line. */
  skipMacro(): void {
    while (this.#line < this.#lines.length && this.#lines[this.#line] !== '') this.#line++;
    this.#at = 0;
  }

  invalid(why: string): NarswarmError {
    return new NarswarmError('config-invalid', `${this.#file}, line ${this.#line + 1}: ${why}`);
  }

  #word(line: string): string {
    if (line.charAt(this.#at) !== '"') {
      const word = /^[^ \t]+/.exec(line.slice(this.#at))?.[0] ?? '';
      this.#at += word.length;
      return word;
    }
    let word = '';
    for (this.#at++; this.#at < line.length; this.#at++) {
      const character = line.charAt(this.#at);
      if (character === '"') {
        this.#at++;
        return word;
      }
      if (character !== '\\') word += character;
      else {
        this.#at++;
        const escaped = line.charAt(this.#at);
        word += escapes[escaped] ?? escaped;
      }
    }
    throw this.invalid('a quotation mark that is not closed on its line');
  }
}
