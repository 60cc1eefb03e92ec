/**
 * Reads a NAR as it streams by: checks its grammar, order and bounds, and tells a visitor what is in it. Contents of
 * files are skipped, not copied. Source: Nix, libutil `archive.cc`, with the bounds of its newer versions.
 */

import { NarswarmError } from './errors.ts';

/** Directories within directories; the root is depth 0. */
export const narMaxDepth = 64;
/** Bytes of an entry's name: what file systems allow. */
export const narNameMaxBytes = 255;
/** Bytes of a symbolic link's target: what Linux allows. */
export const narTargetMaxBytes = 4095;
/** The longest word of the grammar is `nix-archive-1`; a longer one is not looked at. */
const wordMaxBytes = 16;

export interface NarVisitor {
  /** `path` is relative to the root, `/` between its parts; the root itself is ''. */
  directory?(path: string): void;
  /** `offset`: of the contents, in bytes from the start of the NAR. */
  regular?(path: string, sizeBytes: number, executable: boolean, offset: number): void;
  symlink?(path: string, target: string): void;
}

/** What is read next: a word of the grammar, a name, a target, or the contents of a file. */
type Expect =
  | 'magic'
  | 'open'
  | 'type'
  | 'kind'
  | 'regularNext'
  | 'executableValue'
  | 'contentsWord'
  | 'contents'
  | 'targetWord'
  | 'target'
  | 'nodeClose'
  | 'entryOrClose'
  | 'entryOpen'
  | 'nameWord'
  | 'name'
  | 'nodeWord'
  | 'entryClose'
  | 'end';

interface Step {
  expect: Expect;
  does?: 'beginRegular' | 'executable' | 'emptyRegular' | 'enter' | 'leaveNode' | 'leaveDirectory';
}

/** The words that may come where, what follows on each, and what is to be done then. */
const grammar: Partial<Record<Expect, Record<string, Step>>> = {
  magic: { 'nix-archive-1': { expect: 'open' } },
  open: { '(': { expect: 'type' } },
  type: { type: { expect: 'kind' } },
  kind: {
    regular: { expect: 'regularNext', does: 'beginRegular' },
    symlink: { expect: 'targetWord' },
    directory: { expect: 'entryOrClose', does: 'enter' },
  },
  regularNext: {
    executable: { expect: 'executableValue', does: 'executable' },
    contents: { expect: 'contents' },
    ')': { expect: 'nodeClose', does: 'emptyRegular' },
  },
  executableValue: { '': { expect: 'contentsWord' } },
  contentsWord: { contents: { expect: 'contents' } },
  targetWord: { target: { expect: 'target' } },
  nodeClose: { ')': { expect: 'nodeClose', does: 'leaveNode' } },
  entryOrClose: { entry: { expect: 'entryOpen' }, ')': { expect: 'nodeClose', does: 'leaveDirectory' } },
  entryOpen: { '(': { expect: 'nameWord' } },
  nameWord: { name: { expect: 'name' } },
  nodeWord: { node: { expect: 'open' } },
  entryClose: { ')': { expect: 'entryOrClose' } },
};

interface Directory {
  path: string;
  lastName: Buffer | undefined;
}

/** Push parser. `write` throws `nar-corrupt` with the offset of the first byte that does not fit. */
export class NarReader {
  readonly #visitor: NarVisitor;
  #offset = 0;
  #expect: Expect = 'magic';
  readonly #directories: Directory[] = [];
  #path = '';
  #executable = false;

  // The string under way: 8 bytes of length, then the bytes, then zeros up to a multiple of 8.
  readonly #head = Buffer.alloc(8);
  #headFilled = 0;
  #length = 0;
  #taken = 0;
  #padding = 0;
  #inString = false;
  /** One memory for all words, names and targets: with one for each, reading NARs took twice as long. */
  readonly #scratch = Buffer.alloc(narTargetMaxBytes);

  constructor(visitor: NarVisitor = {}) {
    this.#visitor = visitor;
  }

  /** Bytes read so far. */
  get offset(): number {
    return this.#offset;
  }

  write(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#expect === 'end') throw this.#corrupt('bytes after the end of the NAR');
      const used = this.#inString ? this.#takeString(chunk, at) : this.#takeHead(chunk, at);
      at += used;
      this.#offset += used;
      if (this.#inString && this.#taken === this.#length && this.#padding === 0) this.#finishString();
    }
  }

  /** Throws `nar-truncated` unless the NAR is whole. */
  end(): void {
    if (this.#expect !== 'end') {
      throw new NarswarmError('nar-truncated', 'the NAR ends too early', { offset: this.#offset });
    }
  }

  #takeHead(chunk: Uint8Array, at: number): number {
    const used = Math.min(8 - this.#headFilled, chunk.length - at);
    copyFew(chunk, at, this.#head, this.#headFilled, used);
    this.#headFilled += used;
    if (this.#headFilled < 8) return used;
    this.#headFilled = 0;
    // Inexact from 2^53 on, which is too long everywhere.
    const length = this.#head.readUInt32LE(4) * 2 ** 32 + this.#head.readUInt32LE(0);
    if (length > this.#maxLength()) {
      this.#offset -= 8 - used;
      throw this.#corrupt(`a string of ${this.#head.readBigUInt64LE(0)} bytes is too long here`);
    }
    this.#length = length;
    this.#taken = 0;
    this.#padding = (8 - (this.#length % 8)) % 8;
    this.#inString = true;
    if (this.#expect === 'contents') {
      this.#visitor.regular?.(this.#path, this.#length, this.#executable, this.#offset + used);
    }
    return used;
  }

  #takeString(chunk: Uint8Array, at: number): number {
    const left = this.#length - this.#taken;
    if (left > 0) {
      const used = Math.min(left, chunk.length - at);
      if (this.#expect !== 'contents') copyFew(chunk, at, this.#scratch, this.#taken, used);
      this.#taken += used;
      return used;
    }
    if (chunk[at] !== 0) throw this.#corrupt('padding that is not zero');
    this.#padding--;
    return 1;
  }

  #maxLength(): number {
    if (this.#expect === 'contents') return Number.MAX_SAFE_INTEGER - 8;
    if (this.#expect === 'name') return narNameMaxBytes;
    if (this.#expect === 'target') return narTargetMaxBytes;
    return wordMaxBytes;
  }

  #finishString(): void {
    this.#inString = false;
    if (this.#expect === 'contents') {
      this.#expect = 'nodeClose';
      return;
    }
    const text = this.#scratch.subarray(0, this.#length);
    switch (this.#expect) {
      case 'name':
        this.#takeName(text);
        break;
      case 'target':
        this.#takeTarget(text);
        break;
      default:
        this.#takeWord(text);
    }
  }

  #takeWord(text: Buffer): void {
    const next = grammar[this.#expect] ?? {};
    const word = text.toString('latin1');
    const step = Object.hasOwn(next, word) ? next[word] : undefined;
    if (step === undefined) {
      const wanted = Object.keys(next).map((each) => JSON.stringify(each));
      throw this.#corrupt(`${JSON.stringify(word)} where ${wanted.join(' or ')} belongs`);
    }
    this.#expect = step.expect;
    if (step.does === 'beginRegular') this.#executable = false;
    else if (step.does === 'executable') this.#executable = true;
    else if (step.does === 'enter') this.#enter();
    else if (step.does === 'leaveNode') this.#leaveNode();
    else if (step.does === 'emptyRegular') {
      // A regular file may come without contents: it is empty.
      this.#visitor.regular?.(this.#path, 0, false, this.#offset);
      this.#leaveNode();
    } else if (step.does === 'leaveDirectory') {
      this.#directories.pop();
      this.#leaveNode();
    }
  }

  #takeTarget(target: Buffer): void {
    if (target.length === 0 || target.includes(0)) throw this.#corrupt('a link with an impossible target');
    this.#visitor.symlink?.(this.#path, target.toString());
    this.#expect = 'nodeClose';
  }

  #enter(): void {
    if (this.#directories.length >= narMaxDepth)
      throw this.#corrupt(`directories deeper than ${narMaxDepth}`);
    this.#directories.push({ path: this.#path, lastName: undefined });
    this.#visitor.directory?.(this.#path);
  }

  /** After the last parenthesis of a node: back to the directory that holds it, or to the end. */
  #leaveNode(): void {
    this.#expect = this.#directories.length === 0 ? 'end' : 'entryClose';
  }

  #takeName(name: Buffer): void {
    const directory = this.#directories.at(-1);
    if (directory === undefined) throw this.#corrupt('an entry outside a directory');
    const text = name.toString();
    if (name.length === 0 || text === '.' || text === '..' || name.includes(0) || name.includes(0x2f)) {
      throw this.#corrupt(`${JSON.stringify(text)} is no name of an entry`);
    }
    if (directory.lastName !== undefined && Buffer.compare(name, directory.lastName) <= 0) {
      throw this.#corrupt(`entry ${JSON.stringify(text)} is out of order`);
    }
    directory.lastName = Buffer.from(name);
    this.#path = directory.path === '' ? text : `${directory.path}/${text}`;
    this.#expect = 'nodeWord';
  }

  #corrupt(why: string): NarswarmError {
    return new NarswarmError('nar-corrupt', `not a NAR: ${why}, at byte ${this.#offset}`, {
      offset: this.#offset,
    });
  }
}

/** Faster than a view and `set` for a few bytes. */
function copyFew(from: Uint8Array, at: number, to: Uint8Array, toAt: number, count: number): void {
  for (let i = 0; i < count; i++) to[toAt + i] = from[at + i] ?? 0;
}
