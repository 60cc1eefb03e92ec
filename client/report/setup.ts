/** How a client is set up, as it tells whoever looks for what is wrong. `/_narswarm/setup`. */

import type { Router } from '../../web/app.ts';
import { sendText } from '../../web/send.ts';
import type { ShareMode } from '../config.ts';
import { ownPrefix } from '../local-url.ts';
import type { ShareSetup } from '../share/share.ts';

/** What is no secret on this machine: no login, and nothing of what was fetched. */
export interface ClientSetup extends ShareSetup {
  /** Of the caches behind; missing while none has answered. */
  storeDir?: string;
  /** As Nix is told it. */
  priority: number;
  dataDir: string;
  cacheSizeBytes: number;
  heldBytes: number;
  upstreams: string[];
  /** Some upstreams are given a login. */
  netrc: boolean;
  catalogs: string[];
  /** Those that are trusted now, as `name:base64`. */
  catalogKeys: string[];
  trustedKeys: string[];
  views: string[];
  share: ShareMode;
}

export function addSetupRoute(router: Router, setup: () => ClientSetup): void {
  router.get(`/${ownPrefix}setup`, async (request, response) => {
    response.setHeader('Cache-Control', 'no-store');
    await sendText(request, response, `${JSON.stringify(setup())}\n`, 'application/json');
  });
}
