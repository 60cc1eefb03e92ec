/** Packets of the UDP tracker protocol: whatever comes is read as something or as nothing. */

import fc from 'fast-check';
import t from 'tap';
import { IpAddress } from '../../swarm/address/ip-address.ts';
import { ConnectionIds } from '../../swarm/tracker/connection-ids.ts';
import { numWantDefault, numWantMax } from '../../swarm/tracker/tracker-query.ts';
import {
  packetKind,
  parseAnnounce,
  parseScrape,
  udpPacketMaxBytes,
} from '../../swarm/tracker/udp-packets.ts';
import { announcePacket, connectPacket, known, scrapePacket } from './udp-lab.ts';

const id = Buffer.alloc(8, 1);

t.test('any bytes are a packet of one kind, or none; none is read beyond its end', async () => {
  const start = fc.constantFrom(connectPacket(), announcePacket(id), scrapePacket(id, [known, known]));
  const packet = fc
    .tuple(start, fc.uint8Array({ maxLength: 60 }), fc.nat(110), fc.nat(200))
    .map(([bytes, noise, at, length]) => {
      const changed = Buffer.concat([bytes, noise]);
      changed.set(noise.subarray(0, Math.max(0, changed.length - at)), Math.min(at, changed.length));
      return changed.subarray(0, length);
    });
  fc.assert(
    fc.property(fc.oneof(packet, fc.uint8Array({ maxLength: 2_100 }).map(Buffer.from)), (bytes) => {
      const kind = packetKind(bytes);
      if (kind === 'announce') {
        const { infoHash, peerId, left, numWant } = parseAnnounce(bytes);
        return (
          /^[0-9a-f]{40}$/.test(infoHash) &&
          peerId.length === 20 &&
          left >= 0 &&
          numWant >= 1 &&
          numWant <= numWantMax
        );
      }
      if (kind === 'scrape') return parseScrape(bytes).length * 20 + 16 === bytes.length;
      return kind === undefined || bytes.length >= 16;
    }),
    { numRuns: 5_000 },
  );
});

t.test('an announce is read field by field', async (t) => {
  const peerId = '-XX0001-abcdefghijkl';
  t.match(parseAnnounce(announcePacket(id, { peerId, left: 42n, event: 1, numWant: 7, port: 6881 })), {
    infoHash: known,
    peerId: Buffer.from(peerId),
    port: 6881,
    left: 42,
    event: 'completed',
    numWant: 7,
  });
  const wanted = [-1, 0, 1_000].map((numWant) => parseAnnounce(announcePacket(id, { numWant })).numWant);
  t.same(wanted, [numWantDefault, numWantDefault, numWantMax]);
  t.equal(packetKind(Buffer.concat([announcePacket(id), Buffer.alloc(udpPacketMaxBytes - 98)])), 'announce');
});

t.test('connection ids differ between addresses, and one of them says nothing of another', async () => {
  const ids = new ConnectionIds(() => 0);
  const given = (address: IpAddress): Buffer => {
    const bytes = Buffer.alloc(8);
    ids.give(address, bytes, 0);
    return bytes;
  };
  const address = (text: string): IpAddress => {
    const made = new IpAddress();
    if (!made.read(text)) throw new Error(text);
    return made;
  };
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), fc.oneof(fc.ipV4(), fc.ipV6()), (a, b) => {
      const [one, two] = [address(a), address(b)];
      const bytes = given(one);
      return ids.isGood(one, bytes, 0) && ids.isGood(two, bytes, 0) === one.bytes.equals(two.bytes);
    }),
  );
});
