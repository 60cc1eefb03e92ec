/** What an administrator wants kept: the rules of `--select`, and in which order each of them wants NAR files. Pure. */

import { NarswarmError } from '../nar/errors.ts';
import { parseStorePath, type StorePath } from '../nar/store-path.ts';

export type SelectRule =
  /** A view of the catalog, such as a channel release with its closure. */
  | { readonly kind: 'channel'; readonly name: string }
  | { readonly kind: 'closure'; readonly storePath: StorePath }
  /** A file with one store path a line; their closures. */
  | { readonly kind: 'paths'; readonly file: string }
  /** What was asked for most lately. */
  | { readonly kind: 'popular' }
  /** What has fewest other seeds. */
  | { readonly kind: 'rare' }
  /** The newest first. */
  | { readonly kind: 'all' };

export interface Selection {
  readonly rule: SelectRule;
  /** Of the quota, more than 0 and at most 1; without one, what the shares of the others leave. */
  readonly share: number | undefined;
  /** As it was written, without the share. */
  readonly text: string;
}

/** Rules of one mirror: each is a pass over the catalog. */
export const selectionsMax = 32;

const plain = new Set(['popular', 'rare', 'all'] as const);

/** `channel:NAME`, `closure:STOREPATH`, `paths:FILE`, `popular`, `rare` or `all`, with `=60%` behind it. Throws config-invalid. */
export function parseSelection(text: string): Selection {
  const match = /^(.*?)(?:=([0-9]{1,3}(?:\.[0-9]+)?)%)?$/s.exec(text.trim());
  const ruleText = match?.[1] ?? '';
  const percent = match?.[2] === undefined ? undefined : Number(match[2]);
  if (percent !== undefined && !(percent > 0 && percent <= 100)) {
    throw invalid(text, 'a share is more than 0% and at most 100%');
  }
  return { rule: parseRule(ruleText, text), share: percent && percent / 100, text: ruleText };
}

/** Throws config-invalid when the shares are more than there is. */
export function checkSelections(selections: readonly Selection[]): void {
  if (selections.length > selectionsMax) {
    throw new NarswarmError('config-invalid', `more than ${selectionsMax} selections`);
  }
  const sum = selections.reduce((all, { share = 0 }) => all + share, 0);
  // Ten times 10% is a little more than 1.
  if (sum > 1.000_001) {
    throw new NarswarmError(
      'config-invalid',
      `the shares of the selections are ${Math.round(sum * 100)}% together`,
    );
  }
}

function parseRule(ruleText: string, text: string): SelectRule {
  for (const kind of plain) if (ruleText === kind) return { kind };
  const colon = ruleText.indexOf(':');
  const value = ruleText.slice(colon + 1);
  if (colon < 0 || value === '')
    throw invalid(text, 'write channel:NAME, closure:STOREPATH, paths:FILE, popular, rare or all');
  switch (ruleText.slice(0, colon)) {
    case 'channel':
      return { kind: 'channel', name: value };
    case 'paths':
      return { kind: 'paths', file: value };
    case 'closure':
      try {
        return { kind: 'closure', storePath: parseStorePath(value) };
      } catch (cause) {
        throw new NarswarmError('config-invalid', `${JSON.stringify(value)} is not a store path`, { cause });
      }
    default:
      throw invalid(text, 'write channel:NAME, closure:STOREPATH, paths:FILE, popular, rare or all');
  }
}

/** What is known of NAR files, by their place in the order of the catalog. */
export interface Circumstances {
  /** Other seeds, as far as known. */
  seedsOf(item: number): number;
  /** A level: one more means about twice as often. */
  demandOf(item: number): number;
  isHeld(item: number): boolean;
  /** Tells one mirror from another, so that they do not all choose the same among equals. */
  readonly salt: number;
}

/** A held one yields to what has so many fewer seeds, so that mirrors do not exchange the same files for ever. */
const rareAdvantage = 2;
/** A held one yields to what is asked for about four times as often. */
const popularAdvantage = 2;

/** The items in the order in which `popular`, `rare` or `all` wants them; `items` of them, the newest last. */
export function orderOf(kind: 'popular' | 'rare' | 'all', items: number, about: Circumstances): Uint32Array {
  const order = new Uint32Array(items);
  for (let index = 0; index < items; index++) order[index] = items - 1 - index;
  if (kind === 'all') return order;
  const ranks = new Float64Array(items);
  for (let item = 0; item < items; item++) {
    ranks[item] = kind === 'rare' ? rareRank(item, about) : popularRank(item, about);
  }
  const wanted = kind === 'rare' ? order : order.filter((item) => about.demandOf(item) > 0);
  return wanted.sort(
    (a, b) => (ranks[a] ?? 0) - (ranks[b] ?? 0) || mixed(a, about.salt) - mixed(b, about.salt),
  );
}

function rareRank(item: number, about: Circumstances): number {
  return about.seedsOf(item) - (about.isHeld(item) ? rareAdvantage : 0);
}

function popularRank(item: number, about: Circumstances): number {
  return -about.demandOf(item) - (about.isHeld(item) ? popularAdvantage : 0);
}

/** A number that follows from both and looks arbitrary. */
function mixed(item: number, salt: number): number {
  let hash = Math.imul(item ^ salt, 0x9e3779b1);
  hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b);
  return (hash ^ (hash >>> 13)) >>> 0;
}

function invalid(text: string, hint: string): NarswarmError {
  return new NarswarmError('config-invalid', `${JSON.stringify(text)} is not a selection; ${hint}`);
}
