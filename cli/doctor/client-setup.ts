/** How the client that is looked at is set up, as it tells itself. */

import type { output } from 'zod';
import { isNarswarmError } from '../../nar/errors.ts';
import { readText } from '../answer.ts';

/** The answer is a few kilobytes; more comes from something else. */
const setupMaxBytes = 1024 * 1024;

async function schema() {
  const { z } = await import('zod');
  const texts = z.array(z.string());
  return z.object({
    storeDir: z.string().optional(),
    priority: z.number(),
    dataDir: z.string(),
    cacheSizeBytes: z.number(),
    heldBytes: z.number(),
    upstreams: texts,
    netrc: z.boolean(),
    catalogs: texts,
    catalogKeys: texts,
    trustedKeys: texts,
    views: texts,
    share: z.enum(['off', 'lan', 'on']),
    peersAddress: z.string().optional(),
    localNetworks: texts,
    localFault: z.string().optional(),
    sharePaused: z.string().optional(),
  });
}

export type ClientSetup = output<Awaited<ReturnType<typeof schema>>>;

/** Why there is none, in words, when there is none. */
export async function fetchClientSetup(
  url: string,
  signal: AbortSignal,
): Promise<ClientSetup | { why: string }> {
  let text: string;
  try {
    const answer = await fetch(`${url}/_narswarm/setup`, { signal });
    if (!answer.ok) {
      await answer.body?.cancel();
      return { why: `something answers at ${url}, but it is no narswarm client` };
    }
    text = await readText(answer, setupMaxBytes);
  } catch (error) {
    if (isNarswarmError(error))
      return { why: `something answers at ${url}, but not as a client of this version does` };
    return { why: `no client answers at ${url}` };
  }
  try {
    return (await schema()).parse(JSON.parse(text));
  } catch {
    return { why: `something answers at ${url}, but not as a client of this version does` };
  }
}
