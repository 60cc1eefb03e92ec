/** The tracker over HTTP: queries in, bencoded answers out. BEP 3, 7 (IPv6), 23 (compact), 31 (when to ask again), 48 (scrape). */

import { isNarswarmError } from '../../nar/errors.ts';
import { IpAddress } from '../address/ip-address.ts';
import { bencode } from '../bencode.ts';
import type { PermanentPeers, Tracker, TrackerAnswer, TrackerRefusal, TrackerRequest } from './tracker.ts';
import { parseAnnounceQuery, parseScrapeQuery } from './tracker-query.ts';

export interface TrackerHttpRequest {
  /** The query as it came, without the question mark. */
  query: string;
  /** IP address of the requester, as the socket tells it; empty when the connection is gone. */
  remoteAddress: string;
  permanentPeers: PermanentPeers;
}

/** The bencoded answer; to what is refused, one with a failure reason. */
export function announceOverHttp(tracker: Tracker, request: TrackerHttpRequest): Buffer {
  return answering(tracker, () => {
    const answer = tracker.announce(parseAnnounceQuery(request.query), requestOf(request));
    if ('refused' in answer) return refusal(answer);
    return announceAnswer(tracker, answer);
  });
}

/** As `announceOverHttp`. Torrents that are not known are left out of the answer. */
export function scrapeOverHttp(tracker: Tracker, request: TrackerHttpRequest): Buffer {
  return answering(tracker, () => {
    const infoHashes = parseScrapeQuery(request.query);
    const counts = tracker.scrape(infoHashes, requestOf(request));
    if ('refused' in counts) return refusal(counts);
    const files = new Map<string, Map<string, number>>();
    for (const [index, infoHash] of infoHashes.entries()) {
      const count = counts[index];
      if (count === undefined) continue;
      const entries = { complete: count.seeds, downloaded: 0, incomplete: count.others };
      files.set(Buffer.from(infoHash, 'hex').toString('latin1'), new Map(Object.entries(entries)));
    }
    return bencode(new Map([['files', files]]));
  });
}

/** Compact whatever was asked for: every program of the last fifteen years reads it. Written by hand, since it is most of what is sent. */
function announceAnswer({ limits }: Tracker, { seeds, others, ipv4, ipv6 }: TrackerAnswer): Buffer {
  const times = `8:intervali${limits.intervalSeconds}e12:min intervali${limits.minIntervalSeconds}e`;
  const head = `d8:completei${seeds}e10:incompletei${others}e${times}5:peers${ipv4.length}:`;
  const between = `6:peers6${ipv6.length}:`;
  return Buffer.concat([Buffer.from(head, 'latin1'), ipv4, Buffer.from(between, 'latin1'), ipv6, end]);
}

const end = Buffer.from('e');

function answering(tracker: Tracker, make: () => Buffer): Buffer {
  try {
    return make();
  } catch (error) {
    if (isNarswarmError(error, 'tracker-failed')) return refusal(tracker.refuse(error.message));
    throw error;
  }
}

function requestOf({ remoteAddress, permanentPeers }: TrackerHttpRequest): TrackerRequest {
  const address = new IpAddress();
  return { from: address.read(remoteAddress) ? address : undefined, permanentPeers };
}

function refusal({ refused, retrySeconds }: TrackerRefusal): Buffer {
  const answer = new Map<string, number | Buffer>([['failure reason', Buffer.from(refused)]]);
  if (retrySeconds !== undefined) {
    answer.set('interval', retrySeconds);
    // BEP 31 counts in minutes.
    answer.set('retry in', Math.ceil(retrySeconds / 60));
  }
  return bencode(answer);
}
