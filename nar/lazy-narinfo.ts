/**
 * A narinfo of which only as much was read as is needed to give it out. Nix asks for those of a whole closure at once, and what all of their
 * references, signatures and the like take in time and memory is several times that.
 */

import type { Sha256 } from './hash.ts';
import { type NarInfo, parseNarInfo } from './narinfo.ts';
import type { StorePath, StorePathName } from './store-path.ts';
import { usual, usualMaxCharacters } from './usual-narinfo.ts';

/** All lines, in the order of Nix's own writers, so that none comes twice; of what is not read here no more than that it has the right characters. */
const pattern = new RegExp(
  [
    `^StorePath: (${usual.storeDir}/${usual.digit}{32}-[${usual.nameCharacters}]{1,211})`,
    `URL: (${usual.url})`,
    `Compression: ${usual.compression}`,
    `FileHash: ${usual.sha256}`,
    `FileSize: (${usual.size})`,
    `NarHash: ${usual.sha256}`,
    `NarSize: ${usual.size}`,
    `References: [${usual.nameCharacters} ]*`,
    '(?:(?:Deriver|System|Sig|CA): [\\x20-\\x7e]*\\n)*$',
  ].join('\\n'),
);

/** For a text that was parsed when it was stored: what is wrong with it otherwise may throw narinfo-corrupt later, when more of it is read. */
export function lazyNarInfo(text: string): NarInfo {
  const found = text.length > usualMaxCharacters ? null : pattern.exec(text);
  return found === null ? parseNarInfo(text) : new LazyNarInfo(text, found);
}

class LazyNarInfo implements NarInfo {
  readonly storePath: StorePath;
  readonly url: string;
  readonly fileHash: Sha256;
  readonly fileSize: number;
  readonly narHash: Sha256;
  readonly text: string;
  #rest: NarInfo | undefined;

  constructor(text: string, [, storePath = '', url = '', fileHash, fileSize, narHash]: RegExpExecArray) {
    this.storePath = storePath as StorePath;
    this.url = url;
    this.fileHash = fileHash as Sha256;
    this.fileSize = Number(fileSize);
    this.narHash = narHash as Sha256;
    this.text = text;
  }

  get compression(): string {
    return this.#all.compression;
  }

  get narSize(): number {
    return this.#all.narSize;
  }

  get references(): readonly StorePathName[] {
    return this.#all.references;
  }

  get deriver(): string | undefined {
    return this.#all.deriver;
  }

  get system(): string | undefined {
    return this.#all.system;
  }

  get ca(): string | undefined {
    return this.#all.ca;
  }

  get sigs(): readonly string[] {
    return this.#all.sigs;
  }

  get #all(): NarInfo {
    this.#rest ??= parseNarInfo(this.text);
    return this.#rest;
  }
}
