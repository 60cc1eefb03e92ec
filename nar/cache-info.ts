/** nix-cache-info: what a binary cache says about itself. Source: Nix, libstore `binary-cache-store.cc`. */

import { NarswarmError } from './errors.ts';

/** Three lines are usual. */
export const cacheInfoMaxBytes = 64 * 1024;
/** What Nix takes when the line is missing. */
export const cacheInfoDefaultStoreDir = '/nix/store';

export interface CacheInfo {
  storeDir: string;
  wantMassQuery: boolean;
  /** Lower is asked first. A missing line means 0: before cache.nixos.org, which has 40. */
  priority: number;
}

/** Unknown lines are ignored. Throws `cache-info-corrupt` with the offset in bytes of the line that breaks a rule. */
export function parseCacheInfo(text: string): CacheInfo {
  const info: CacheInfo = { storeDir: cacheInfoDefaultStoreDir, wantMassQuery: false, priority: 0 };
  let offset = 0;
  if (Buffer.byteLength(text) > cacheInfoMaxBytes) throw corrupt('it is too long', 0);
  for (const line of text.split('\n')) {
    const match = /^([^:]+):(.*)$/.exec(line);
    const value = match?.[2]?.trim() ?? '';
    if (match?.[1] === 'StoreDir') {
      if (!/^(\/[^/\0\s]+)+$/.test(value)) throw corrupt('StoreDir is no absolute path', offset);
      info.storeDir = value;
    } else if (match?.[1] === 'WantMassQuery') info.wantMassQuery = value === '1';
    else if (match?.[1] === 'Priority') {
      if (!/^-?[0-9]{1,9}$/.test(value)) throw corrupt('Priority is no number', offset);
      info.priority = Number(value);
    }
    offset += Buffer.byteLength(line) + 1;
  }
  return info;
}

export function printCacheInfo({ storeDir, wantMassQuery, priority }: CacheInfo): string {
  return `StoreDir: ${storeDir}\nWantMassQuery: ${wantMassQuery ? 1 : 0}\nPriority: ${priority}\n`;
}

function corrupt(why: string, offset: number): NarswarmError {
  return new NarswarmError('cache-info-corrupt', `nix-cache-info: ${why}`, { offset });
}
