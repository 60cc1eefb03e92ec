/** What a client answers to `why`, parsed: it may be of another version. */

import type { output } from 'zod';
import { NarswarmError } from '../nar/errors.ts';

/** zod takes longer to load than the rest of a command. */
async function schema() {
  const { z } = await import('zod');
  const leg = z.object({
    source: z.string(),
    why: z.string(),
    fromByte: z.number(),
    startedMs: z.number(),
    firstByteMs: z.number().optional(),
    endedMs: z.number(),
    usedBytes: z.number(),
    unusedBytes: z.number(),
    end: z.string(),
    error: z.string().optional(),
    peers: z.array(z.string()).optional(),
  });
  const story = z.object({
    sizeBytes: z.number().optional(),
    startedMs: z.number(),
    tookMs: z.number(),
    outcome: z.string(),
    ahead: z.boolean(),
    legs: z.array(leg),
    httpMs: z.number().optional(),
  });
  const path = z.object({
    storeHash: z.string(),
    storePath: z.string().optional(),
    sizeBytes: z.number().optional(),
    narInfoFrom: z.string().optional(),
    narInfoMs: z.number().optional(),
    viewed: z.boolean(),
    held: z.boolean(),
    revoked: z.object({ reason: z.string(), timeMs: z.number() }).optional(),
    stories: z.array(story),
  });
  return z.object({ paths: z.array(path), more: z.boolean() });
}

export type Why = output<Awaited<ReturnType<typeof schema>>>;
export type WhyPath = Why['paths'][number];
export type WhyStory = WhyPath['stories'][number];
export type WhyLeg = WhyStory['legs'][number];

/** Throws upstream-failed. */
export async function parseWhy(json: string): Promise<Why> {
  const shape = await schema();
  try {
    return shape.parse(JSON.parse(json));
  } catch (cause) {
    throw new NarswarmError('upstream-failed', 'the answer is not that of a narswarm client', { cause });
  }
}
