/** What leaves this machine because of Nix and the client, to whom, in plain words. Pure. */

import type { ClientSetup } from './client-setup.ts';
import type { Leaving } from './finding.ts';
import { type NixSetup, wordsOf } from './nix-setup.ts';

/** `url`: of the client. */
export function leavingOf(setup: ClientSetup | undefined, nix: NixSetup | undefined, url: string): Leaving[] {
  return [...(setup === undefined ? [] : clientLeaving(setup)), ...nixLeaving(nix, url, setup)];
}

function clientLeaving(setup: ClientSetup): Leaving[] {
  const { upstreams, catalogs, views, share, localNetworks } = setup;
  const leaving: Leaving[] = [];
  for (const upstream of upstreams) {
    const viewed = views.length > 0 ? ' that no view here has' : '';
    leaving.push({
      to: upstream,
      what: `the hash of each store path that Nix looks for${viewed}, and which NAR files are fetched over HTTP`,
    });
  }
  for (const catalog of catalogs) {
    leaving.push({
      to: catalog,
      what: 'the FileHashes of the NAR files that Nix is about to want (/resolve), many in one question, to learn their torrents and peers; and that its catalog is followed',
    });
  }
  if (catalogs.length > 0) {
    leaving.push({
      to: 'peers that a catalog names',
      what: 'which NAR files, or packs of them, are fetched there; they see the address of this machine',
    });
  }
  leaving.push(...shareLeaving(share, catalogs, localNetworks));
  leaving.push({ to: 'the DHT', what: 'nothing: a client has no part in it' });
  return leaving;
}

function shareLeaving(share: ClientSetup['share'], catalogs: string[], networks: string[]): Leaving[] {
  if (share === 'off') {
    return [
      { to: 'trackers', what: 'nothing, because nothing is shared' },
      { to: 'the local network', what: 'nothing, because nothing is shared: no multicast is sent' },
    ];
  }
  const local = {
    to: `everybody in the local network${networks.length > 0 ? ` (multicast from ${networks.join(', ')})` : ''}`,
    what: 'the infohash, and so the name and version, of each signed NAR file of 256 KiB and more when it is fetched, of each one when it is kept, and of any that somebody there asks for and that is kept here; and the bytes to whoever fetches them',
  };
  if (share === 'lan') {
    return [{ to: 'trackers', what: 'nothing: only the local network is told what is shared' }, local];
  }
  return [
    {
      to: catalogs.length === 0 ? 'trackers' : `the trackers of ${catalogs.join(', ')}`,
      what: 'which signed NAR files are kept here, and the address and port of this machine; they tell it to whoever asks for those files',
    },
    { to: 'anybody who fetches them', what: 'the bytes of signed NAR files that are kept here' },
    local,
  ];
}

function nixLeaving(nix: NixSetup | undefined, url: string, setup: ClientSetup | undefined): Leaving[] {
  if (nix === undefined) return [];
  const others = wordsOf(nix, 'substituters').filter((each) => !each.startsWith(url));
  return others.map((other) => ({
    to: `${other} (by Nix itself)`,
    what:
      setup === undefined
        ? 'the hash of each store path that Nix looks for, and what it fetches there'
        : 'the hash of each store path that the client has not, and what Nix fetches there',
  }));
}
