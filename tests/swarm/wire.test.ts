import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { isNarswarmError } from '../../nar/errors.ts';
import { blockMaxBytes, controlMessageMaxBytes } from '../../swarm/wire/limits.ts';
import type { WireVisitor } from '../../swarm/wire/wire.ts';
import { WireDecoder } from '../../swarm/wire/wire.ts';
import {
  encodeBitfield,
  encodeCancels,
  encodeExtended,
  encodeIndexed,
  encodeKeepAlive,
  encodePieceHeader,
  encodeRejects,
  encodeRequest,
  encodeRequests,
  encodeSimple,
  fullBitfield,
} from '../../swarm/wire/wire-encode.ts';

const pieces = 21;

/** Writes down every event; block payloads are joined, since slices depend on the chunks. */
function recorder(): { visitor: WireVisitor; events: string[] } {
  const events: string[] = [];
  let block = '';
  const named =
    (name: string) =>
    (...values: (number | Buffer)[]): void => {
      events.push([name, ...values.map((v) => (typeof v === 'number' ? v : v.toString('hex')))].join(' '));
    };
  return {
    events,
    visitor: {
      keepAlive: named('keepAlive'),
      choke: named('choke'),
      unchoke: named('unchoke'),
      interested: named('interested'),
      notInterested: named('notInterested'),
      have: named('have'),
      bitfield: named('bitfield'),
      request: named('request'),
      cancel: named('cancel'),
      suggest: named('suggest'),
      haveAll: named('haveAll'),
      haveNone: named('haveNone'),
      reject: named('reject'),
      allowedFast: named('allowedFast'),
      extended: named('extended'),
      ignored: named('ignored'),
      pieceStart(index, begin, lengthBytes) {
        block = `piece ${index} ${begin} ${lengthBytes} `;
      },
      pieceData(bytes, offset) {
        const at = block.lastIndexOf(' ') + 1;
        if ((block.length - at) / 2 !== offset || bytes.length === 0) events.push('offset wrong');
        block += bytes.toString('hex');
      },
      pieceEnd() {
        events.push(block);
      },
    },
  };
}

function message(id: number, length: number, body: Uint8Array = Buffer.alloc(length - 1)): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(length);
  head[4] = id;
  return Buffer.concat([head, body]);
}

const u32 = fc.nat(0xffffffff);
const index = fc.nat(pieces - 1);
const block = fc.record({ index: u32, begin: u32, lengthBytes: u32 });
const anyMessage: fc.Arbitrary<Buffer> = fc.oneof(
  fc.constant(encodeKeepAlive()),
  fc
    .constantFrom('choke', 'unchoke', 'interested', 'notInterested', 'haveAll', 'haveNone')
    .map((kind) => encodeSimple(kind)),
  fc
    .tuple(fc.constantFrom('have', 'suggest', 'allowedFast'), index)
    .map(([kind, piece]) => encodeIndexed(kind, piece)),
  fc.constant(encodeBitfield(fullBitfield(pieces))),
  fc.array(block, { maxLength: 5 }).map((blocks) => encodeRequests(blocks)),
  fc.array(block, { maxLength: 5 }).map((blocks) => encodeCancels(blocks)),
  fc.array(block, { maxLength: 5 }).map((blocks) => encodeRejects(blocks)),
  fc
    .tuple(u32, u32, fc.uint8Array({ minLength: 1, maxLength: 300 }))
    .map(([piece, begin, bytes]) =>
      Buffer.concat([encodePieceHeader({ index: piece, begin, lengthBytes: bytes.length }), bytes]),
    ),
  fc
    .tuple(fc.nat(255), fc.uint8Array({ maxLength: 300 }))
    .map(([id, payload]) => encodeExtended(id, payload)),
  fc
    .tuple(fc.constantFrom(10, 12, 18, 21, 99, 255), fc.uint8Array({ maxLength: 300 }))
    .map(([id, body]) => message(id, body.length + 1, body)),
  fc.constant(message(9, 3)),
);

function eventsOf(chunks: Buffer[]): string[] {
  const { visitor, events } = recorder();
  const decoder = new WireDecoder(visitor, { pieces });
  for (const chunk of chunks) decoder.push(chunk);
  assert.ok(decoder.idle, 'a whole stream ends between messages');
  return events;
}

t.test('a stream gives the same events however it is cut', async () => {
  fc.assert(
    fc.property(
      fc.array(anyMessage, { maxLength: 12 }),
      fc.array(fc.integer({ min: 1, max: 400 })),
      (messages, cuts) => {
        const stream = Buffer.concat(messages);
        const chunks: Buffer[] = [];
        for (let at = 0, cut = 0; at < stream.length; cut++) {
          const count = cuts[cut] ?? stream.length;
          // A copy that is wiped afterwards would show a view that outlived its call.
          chunks.push(Buffer.from(stream.subarray(at, at + count)));
          at += count;
        }
        const whole = eventsOf([stream]);
        assert.deepEqual(eventsOf(chunks), whole);
        t.same(eventsOf([...stream].map((byte) => Buffer.from([byte]))), whole);
      },
    ),
    { numRuns: 150 },
  );
});

t.test('random bytes throw nothing but wire-violation', async () => {
  const stream = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    // A plausible length and id in front, so that the bytes get past the first check.
    fc
      .tuple(fc.nat(40), fc.nat(22), fc.uint8Array({ maxLength: 60 }))
      .map(([length, id, body]) => message(id, length, body)),
  );
  fc.assert(
    fc.property(fc.array(stream, { maxLength: 4 }), fc.nat(8), (streams, pieceCount) => {
      const decoder = new WireDecoder(recorder().visitor, { pieces: pieceCount });
      try {
        for (const bytes of streams) decoder.push(Buffer.from(bytes));
      } catch (error) {
        assert.ok(isNarswarmError(error, 'wire-violation'), String(error));
      }
    }),
    { numRuns: 3000 },
  );
});

t.test('every message comes out as it went in', async (t) => {
  const request = { index: 3, begin: 16384, lengthBytes: 16384 };
  const events = eventsOf([
    encodeRequest(request),
    encodeRequests([request, { ...request, begin: 0 }]),
    encodeBitfield(fullBitfield(pieces)),
    encodeIndexed('have', 20),
    encodeSimple('unchoke'),
    encodeKeepAlive(),
    encodeExtended(3, Buffer.from('ab'), Buffer.from('c')),
    encodePieceHeader({ index: 1, begin: 2, lengthBytes: 3 }),
    Buffer.from('xyz'),
    message(9, 3),
    message(77, 9),
  ]);
  t.same(events, [
    'request 3 16384 16384',
    'request 3 16384 16384',
    'request 3 0 16384',
    'bitfield fffff8',
    'have 20',
    'unchoke',
    'keepAlive',
    'extended 3 616263',
    'piece 1 2 3 78797a',
    'ignored 9 3',
    'ignored 77 9',
  ]);
});

const head = (length: number, id: number): Buffer => message(id, length, Buffer.alloc(0));
const hostile: [string, Buffer][] = [
  ['a length of 4 GiB', Buffer.from([0xff, 0xff, 0xff, 0xff])],
  ['a length just over the largest block', Buffer.from([0, 16, 0, 10])],
  ['a block over the limit', head(9 + blockMaxBytes + 1, 7)],
  ['a block without bytes', head(9, 7)],
  ['a block shorter than its head', head(5, 7)],
  ['a bitfield that is too long', head(1 + 4, 5)],
  ['a bitfield that is too short', head(1 + 2, 5)],
  ['a bitfield with spare bits', encodeBitfield(Buffer.from([0, 0, 1]))],
  ['an extended message over the limit', head(controlMessageMaxBytes + 1, 20)],
  ['an extended message without an id', head(1, 20)],
  ['an unknown message over the limit', head(controlMessageMaxBytes + 1, 99)],
  ['a choke with a payload', head(2, 0)],
  ['a have of the wrong length', head(4, 4)],
  ['a request of the wrong length', head(14, 6)],
  ['a have beyond the last piece', encodeIndexed('have', pieces)],
  ['a suggestion beyond the last piece', encodeIndexed('suggest', 0xffffffff)],
];
for (const [title, bytes] of hostile) {
  t.test(`${title} is a violation, at its offset`, async (t) => {
    const decoder = new WireDecoder(recorder().visitor, { pieces });
    decoder.push(encodeSimple('interested'));
    t.throws(() => decoder.push(bytes), { code: 'wire-violation', offset: 5 });
    t.doesNotThrow(() => decoder.push(bytes), 'and the decoder has stopped');
  });
}

t.test('an upload-only decoder takes no block at all', async (t) => {
  const decoder = new WireDecoder(recorder().visitor, { pieces, blockMaxBytes: 0 });
  t.throws(() => decoder.push(encodePieceHeader({ index: 0, begin: 0, lengthBytes: 1 })), {
    code: 'wire-violation',
  });
});

t.test('a visitor that stops the decoder is not called again', async (t) => {
  let calls = 0;
  const decoder = new WireDecoder(
    {
      have() {
        calls++;
        decoder.stop();
      },
    },
    { pieces },
  );
  decoder.push(Buffer.concat([encodeIndexed('have', 0), encodeIndexed('have', 1)]));
  decoder.push(encodeIndexed('have', 2));
  t.equal(calls, 1);
});
