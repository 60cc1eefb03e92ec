/** Queries of announces and scrapes: what is read from them, and what is refused. */
import fc from 'fast-check';
import t from 'tap';
import { isNarswarmError } from '../../nar/errors.ts';
import { infoHashFromDigest } from '../../nar/hash.ts';
import {
  numWantDefault,
  numWantMax,
  parseAnnounceQuery,
  parseScrapeQuery,
  scrapeMaxInfoHashes,
  trackerQueryMaxCharacters,
} from '../../swarm/tracker/tracker-query.ts';

const infoHash = `info_hash=${'%aB'.repeat(20)}`;
const peerId = 'peer_id=-XX0001-abcdefghijkl';
const least = `${infoHash}&${peerId}&port=6881`;

t.test('what programs send is read', async (t) => {
  t.same(
    parseAnnounceQuery(`${least}&uploaded=0&downloaded=0&left=42&compact=1&event=started&numwant=7&key=x`),
    {
      infoHash: 'ab'.repeat(20),
      peerId: Buffer.from('-XX0001-abcdefghijkl'),
      port: 6881,
      left: 42,
      event: 'started',
      numWant: 7,
    },
  );
  t.match(parseAnnounceQuery(least), { left: 1, event: undefined, numWant: numWantDefault });
  t.equal(
    parseAnnounceQuery(`${least}&event=paused`).event,
    undefined,
    'BEP 21 and others: no event of ours',
  );
  t.equal(parseAnnounceQuery(`${infoHash}&${peerId}`).port, 0, 'no port: takes no connections');
  t.equal(
    parseAnnounceQuery(`${least}&left=18446744073709551615`).left,
    Number.MAX_SAFE_INTEGER,
    'left unknown',
  );
});

t.test(
  'numwant: -1 and nothing mean the usual number, 0 means none, more than the most is the most',
  async (t) => {
    const of = (text: string): number => parseAnnounceQuery(`${least}&numwant=${text}`).numWant;
    t.equal(of('-1'), numWantDefault);
    t.equal(of(''), numWantDefault);
    t.equal(of('0'), 0);
    t.equal(of('99999999'), numWantMax);
  },
);

t.test('what cannot be is refused', async (t) => {
  for (const query of [
    '',
    peerId,
    infoHash,
    `${infoHash}%00&${peerId}`,
    `info_hash=${'%ab'.repeat(19)}&${peerId}`,
    `${infoHash}&peer_id=short`,
    `${infoHash}&${peerId}&port=65536`,
    `${infoHash}&${peerId}&port=-1`,
    `${infoHash}&${peerId}&port=1e3`,
    `${least}&left=-1`,
    `${least}&numwant=-2`,
    `${least}&numwant=many`,
    `${least}&x=${'y'.repeat(trackerQueryMaxCharacters)}`,
  ])
    t.throws(() => parseAnnounceQuery(query), { code: 'tracker-failed' }, query.slice(0, 90));
});

t.test('a scrape names what it asks for, and not too much', async (t) => {
  t.same(parseScrapeQuery(`${infoHash}&${infoHash}`), ['ab'.repeat(20), 'ab'.repeat(20)]);
  t.throws(() => parseScrapeQuery(''), { code: 'tracker-failed' });
  t.throws(() => parseScrapeQuery('info_hash='), { code: 'tracker-failed' });
  const many = new Array(scrapeMaxInfoHashes).fill(infoHash).join('&');
  t.equal(parseScrapeQuery(many).length, scrapeMaxInfoHashes, 'as many as allowed fit into a query');
  t.throws(() => parseScrapeQuery(`${many}&${infoHash}`), { code: 'tracker-failed' });
});

t.test('any infohash comes through, however it is escaped', async () => {
  const bytes = fc.uint8Array({ minLength: 20, maxLength: 20 });
  fc.assert(
    fc.property(bytes, fc.array(fc.boolean(), { minLength: 20, maxLength: 20 }), (digest, escaped) => {
      const text = [...digest].map((byte, at) => {
        const plain = /[0-9a-zA-Z._~-]/.test(String.fromCharCode(byte)) && escaped[at] !== true;
        return plain ? String.fromCharCode(byte) : `%${byte.toString(16).padStart(2, '0')}`;
      });
      return parseScrapeQuery(`info_hash=${text.join('')}`)[0] === infoHashFromDigest(digest);
    }),
  );
});

t.test('no query does more than be refused', async () => {
  const part = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.constantFrom(
      infoHash,
      peerId,
      'port=',
      'left=',
      'numwant=',
      '&',
      '=',
      '%',
      '%zz',
      '-1',
      '9'.repeat(30),
    ),
  );
  fc.assert(
    fc.property(fc.array(part), (parts) => {
      for (const parse of [parseAnnounceQuery, parseScrapeQuery]) {
        try {
          parse(parts.join(''));
        } catch (error) {
          if (!isNarswarmError(error, 'tracker-failed')) return false;
        }
      }
      return true;
    }),
    { numRuns: 2_000 },
  );
});
