/**
 * Each limit that is kept towards peers and their trackers, and the test that goes beyond it. A limit without a line here does not
 * compile, and a test that is named here and does not exist fails.
 */

import { readFileSync } from 'node:fs';
import t from 'tap';
import { type DhtLimits, dhtLimits } from '../../swarm/dht/dht-limits.ts';
import { type FetchLimits, fetchLimits } from '../../swarm/fetch/fetch-limits.ts';
import { type TrackerLimits, trackerLimits } from '../../swarm/tracker/tracker-limits.ts';
import { type UploadLimits, uploadLimits } from '../../swarm/upload/upload-limits.ts';
import * as wire from '../../swarm/wire/limits.ts';
import { type SeedLimits, seedLimits } from '../../swarm/wire/limits.ts';
import { defaultHttpLimits, type HttpLimits } from '../../web/server.ts';

/** `file: title`, of a test that exceeds the limit; or why there is nothing to exceed. */
type Proof = `${string}.test.ts: ${string}` | `tuning: ${string}`;
type Proofs<L> = Readonly<Record<keyof L, Proof>>;

const seed: Proofs<SeedLimits> = {
  connectionsMax: 'swarm/seed-limits.test.ts: no more connections than allowed, in all and per address',
  connectionsPerAddressMax: 'swarm/hostile.test.ts: three thousand connections from one address',
  unknownPerMinuteMax:
    'swarm/seed-limits.test.ts: who asks for unknown torrents all the time waits for the next minute',
  unknownPerSecondMax:
    'swarm/seed-limits.test.ts: a flood from many addresses shares one limit, and those who took no part are let in',
  backlog: 'tuning: the kernel keeps it',
  encryptedHandshakesPerSecond:
    'swarm/encryption.test.ts: so many in a second, and as many again in the next one',
  openTorrentsMax: 'swarm/seed-limits.test.ts: no more torrents are open than allowed',
  openTorrentIdleMs: 'swarm/seed-limits.test.ts: a torrent without connections is closed after a while',
  handshakeDeadlineMs: 'swarm/hostile.test.ts: handshakes that never end, a byte at a time',
  idleMs: 'swarm/hostile.test.ts: peers that shake hands and then say nothing',
  keepAlivesMax:
    'swarm/seed-limits.test.ts: a peer that asks for nothing is let go, and keepalives put that off',
  requestsQueuedMax:
    'swarm/seed-limits.test.ts: requests over the limit are rejected, in number and in bytes',
  requestsQueuedMaxBytes:
    'swarm/seed-limits.test.ts: requests over the limit are rejected, in number and in bytes',
  readMaxBytes: 'tuning: the sender cuts its own reads',
  sendWindowMinBytes: 'swarm/seed-limits.test.ts: many peers that do not read stay within the budget',
  sendWindowMaxBytes: 'swarm/seed-limits.test.ts: a peer that does not read holds no more than its window',
  sendBudgetBytes: 'swarm/seed-limits.test.ts: many peers that do not read stay within the budget',
  controlBacklogMaxBytes:
    'swarm/seed-limits.test.ts: a peer that asks for answers and does not read them is no longer read',
  slowReaderMs: 'swarm/hostile.test.ts: peers that read a little now and then',
  chatterPerMinuteMax: 'swarm/hostile.test.ts: a flood of keepalives',
  metadataCopiesMax: 'swarm/seed-limits.test.ts: the metadata is given to one peer only so often',
  lingerMs: 'swarm/seed-limits.test.ts: a seed that does not hang up is cut off',
  drainMs: 'swarm/seed-server.test.ts: close does not wait for a peer that reads nothing',
  sweepMs: 'tuning: how exact the deadlines are',
};

const fetcher: Proofs<FetchLimits> = {
  peers: 'swarm/fetcher.test.ts: silent peers that fill all places make room for those that wait',
  heldPeers: 'swarm/fetch-hold.test.ts: few peers are held, and more are connected to when it starts',
  holdMs: 'swarm/fetch-hold.test.ts: what nobody wants is let go',
  addresses: 'swarm/fetcher.test.ts: addresses that are named twice, or too many of them, are ignored',
  connectMs: 'swarm/fetcher.test.ts: silent peers: stalled after stallMs, not before',
  aheadBytes: 'swarm/fetcher.test.ts: what is fetched ahead of a slow consumer is bounded',
  aheadMaxBytes:
    'swarm/fetch-speed.test.ts: what is fetched ahead grows with the path, and no further than allowed',
  startRequestsOfSeveral: 'tuning: how evenly the first pieces are spread',
  slackMs: 'swarm/peer-pace.test.ts: the window is what the path holds, and little more',
  overtakeRequests: 'swarm/fetch-speed.test.ts: an idle peer takes over little at a time',
  dealPatienceMs: 'tuning: how long a dealt piece is waited for',
  dealNeeds: 'swarm/partial-seed.test.ts: a seed that deals is asked for what others have and do not give',
  startRequests: 'tuning: how a window begins',
  maxRequests: 'tuning: where a window of our own ends',
  assumedRequests: 'tuning: what is asked of a peer that says nothing about it',
  slowMs: 'swarm/fetch-progress.test.ts: signs of life without bytes do not do for ever',
  leastBytesPerSecond: 'swarm/fetcher.test.ts: a peer that drips does not keep a fetch alive',
  rejectedPauseMs: 'tuning: how long a peer is left alone',
  rejects: 'swarm/fetcher.test.ts: a peer that refuses on and on is given up',
  rejectsOfPiece:
    'swarm/fetcher.test.ts: a peer that claims pieces and refuses them is soon asked for others only',
  chatter: 'swarm/fetcher.test.ts: a peer that only talks is dropped',
  keepAliveMs: 'tuning: how often we say that we are there',
  sweepMs: 'tuning: how exact the deadlines are',
  readBytes: 'tuning: the size of our own buffer',
  hashAsideBytes: 'tuning: on which thread a piece is hashed',
};

const upload: Proofs<UploadLimits> = {
  graceCopies:
    'swarm/upload-policy.test.ts: a copy that leaves twice by accident does not hold back what never left',
  neverCappedBytes:
    'swarm/upload-policy.test.ts: a small NAR file is never capped, and no longer capped when the limit is raised',
  rememberedTorrents:
    'swarm/upload-policy.test.ts: of a million torrents only those used lately are in memory, and nothing unsaved is dropped',
  flushMs: 'tuning: what a kill may lose',
  flushRecords:
    'swarm/upload-policy.test.ts: of a million torrents only those used lately are in memory, and nothing unsaved is dropped',
  tickMs: 'tuning: how smooth a rate is',
  burstMs: 'tuning: how smooth a rate is',
  quantumMinBytes: 'tuning: how much one turn is',
  quantumMaxBytes: 'tuning: how much one turn is',
  othersShare:
    'swarm/upload-pacer.test.ts: the rarest torrent goes first when the total is short, and nobody starves',
  slotBytesPerSecond:
    'swarm/upload-pacer.test.ts: the capped rate is enough for a few peers, each with two blocks a second',
  cappedSlotsMax:
    'swarm/upload-control.test.ts: a peer that is held back is choked, and each of its requests is refused',
  totalSlotsMin: 'tuning: how far a low rate is divided',
  slotMs: 'swarm/upload-pacer.test.ts: a slot is kept for a while, then goes to who waited longest',
  slotIdleMs: 'swarm/upload-pacer.test.ts: a slot is kept for a while, then goes to who waited longest',
  heldBackSilenceMs:
    'swarm/upload-control.test.ts: one that says nothing at all while it is held back is gone',
};

const tracker: Proofs<TrackerLimits> = {
  intervalSeconds: 'swarm/tracker.test.ts: who missed two announces is named no more',
  minIntervalSeconds: 'tuning: what peers are asked for',
  torrents: 'swarm/tracker.test.ts: too many torrents: the one that was announced longest ago goes',
  peersPerTorrent:
    'swarm/tracker.test.ts: too many peers of a torrent: the one that announced longest ago goes',
  peersPerTorrentAndAddress: 'swarm/tracker.test.ts: one address cannot crowd others out of a torrent',
  peers: 'swarm/tracker.test.ts: too many peers in all: the torrents that were announced longest ago go',
  peersPerAddress: 'swarm/tracker.test.ts: one address, or a /64 of them, can have so many peers in all',
  requestsPerAddressAndMinute:
    'swarm/tracker.test.ts: an address, or a /64 of them, that asks too often is told',
  knownSeconds:
    'swarm/tracker.test.ts: a torrent that has left the catalog is tracked no more within a minute',
  sweepTorrents: 'tuning: how the work of forgetting is spread',
};

/** What strangers can exceed; what the node does of itself is in dht-budget.test.ts. */
const dht: Proofs<
  Pick<
    DhtLimits,
    | 'queriesPerAddressMax'
    | 'queriesMax'
    | 'queryWindowMs'
    | 'transactionsMax'
    | 'torrentsMax'
    | 'hangMs'
    | 'announcesPerMinute'
  >
> = {
  queriesPerAddressMax: 'swarm/dht-guard.test.ts: one address gets so many answers in a window',
  queriesMax: 'swarm/dht-guard.test.ts: one address gets so many answers in a window',
  queryWindowMs: 'swarm/dht-guard.test.ts: one address gets so many answers in a window',
  transactionsMax:
    'swarm/dht-guard.test.ts: questions that are never answered are forgotten, the oldest first',
  torrentsMax:
    'swarm/dht-budget.test.ts: what was asked for longest ago is forgotten when there are too many',
  hangMs: 'swarm/dht.test.ts: a child that hangs is killed and replaced',
  announcesPerMinute: 'swarm/dht-budget.test.ts: no minute has more announces than allowed',
};

const http: Proofs<HttpLimits> = {
  requestsAtOnce:
    'web/hostile.test.ts: a connection that sends request upon request is cut before many of them are worked on',
  headersTimeoutMs: 'web/hostile.test.ts: heads that come a byte at a time are cut at the deadline',
  requestTimeoutMs: 'web/hostile.test.ts: a body that does not come is cut at the deadline',
  keepAliveMs: 'web/hostile.test.ts: connections without a request are closed after a while',
  silenceMs: 'web/server.test.ts: a reader that stands still is cut after the silence allowed',
  headMaxBytes: 'web/server.test.ts: what is no HTTP is 400, too long a head is 431',
  connections: 'web/server.test.ts: more connections than the limit are closed at once',
  backlog: 'tuning: the kernel keeps it',
  drainMs: 'web/server.test.ts: closing cuts what does not finish, in time',
};

const constants: Proofs<Pick<typeof wire, Exclude<keyof typeof wire, 'seedLimits'>>> = {
  blockBytes: 'tuning: what we ask for',
  foreignBlockMaxBytes: 'swarm/placed-blocks.test.ts: a large block is refused where there is a rate',
  blockMaxBytes: 'swarm/wire.test.ts: a block over the limit',
  controlMessageMaxBytes: 'swarm/wire.test.ts: an extended message over the limit',
  metadataPieceBytes: 'tuning: BEP 9 fixes it',
  extensionDepthMax: 'swarm/hostile.test.ts: an extended handshake that nests ten thousand deep',
  extensionValuesMax: 'swarm/hostile.test.ts: an extended handshake of sixteen thousand lists',
};

const all: [string, Readonly<Record<string, Proof>>, object][] = [
  ['the seed server', seed, seedLimits],
  ['the fetcher', fetcher, fetchLimits],
  ['uploading', upload, uploadLimits],
  ['the tracker', tracker, trackerLimits],
  ['the DHT', dht, dhtLimits],
  ['HTTP', http, defaultHttpLimits],
  ['the wire', constants, wire],
];

const sources = new Map<string, string>();
for (const [whose, proofs, limits] of all) {
  t.test(`every limit of ${whose} is a number above zero, with a test that goes beyond it`, async (t) => {
    const values = new Map<string, unknown>(Object.entries(limits));
    for (const [name, proof] of Object.entries(proofs)) {
      const value = values.get(name);
      t.ok(typeof value === 'number' && value > 0, name);
      if (proof.startsWith('tuning: ')) continue;
      const [file = '', title = ''] = proof.split(/\.test\.ts: (.*)/s);
      const text = sources.get(file) ?? readFileSync(new URL(`../${file}.test.ts`, import.meta.url), 'utf8');
      sources.set(file, text);
      t.ok(text.includes(title), `${name}: ${proof}`);
    }
  });
}
