/** The answering side of the encrypted handshake, against an initiator that uses Node's own Diffie-Hellman. */

import { createDiffieHellman, createHash, randomBytes } from 'node:crypto';
import t from 'tap';
import { infoHashFromDigest } from '../../nar/hash.ts';
import {
  EncryptedHandshake,
  msePrime,
  NamedTorrents,
  type Opened,
} from '../../swarm/wire/encrypted-handshake.ts';
import { OpeningReader } from '../../swarm/wire/opening-reader.ts';
import { Rc4 } from '../../swarm/wire/rc4.ts';
import { encodeHandshake, makePeerId } from '../../swarm/wire/wire-handshake.ts';

const infoHash = infoHashFromDigest(randomBytes(20));
const known = new NamedTorrents(10);
known.add(infoHash);

let insisted = 0;

/** What a peer says and hears. */
class Initiator {
  readonly #dh = createDiffieHellman(Buffer.from(msePrime.toString(16), 'hex'), 2);
  readonly #skey: Buffer;
  readonly heard: Buffer[] = [];
  #theirs: Rc4 | undefined;

  constructor(skey: Buffer = Buffer.from(infoHash, 'hex')) {
    this.#skey = skey;
    this.#dh.generateKeys();
  }

  first(paddingBytes: number): Buffer {
    return Buffer.concat([padded(this.#dh.getPublicKey()), randomBytes(paddingBytes)]);
  }

  /** `method`: bit 1 for a plain stream, 2 for RC4. */
  second(options: { initial: Buffer; padding?: number; method?: number; paddingSaid?: number }): Buffer {
    const { initial, padding = 0, method = 3, paddingSaid = padding } = options;
    const key = Buffer.concat(this.heard).subarray(0, 96);
    const secret = padded(this.#dh.computeSecret(key));
    const cipher = (name: string): Rc4 => {
      const rc4 = new Rc4(sha1(name, secret, this.#skey));
      rc4.apply(Buffer.alloc(1024));
      return rc4;
    };
    this.#theirs = cipher('keyB');
    const named = sha1('req2', this.#skey).map((byte, at) => byte ^ (sha1('req3', secret)[at] ?? 0));
    const fields = Buffer.alloc(14 + padding + 2);
    fields.writeUInt32BE(method, 8);
    fields.writeUInt16BE(paddingSaid, 12);
    fields.writeUInt16BE(initial.length, 14 + padding);
    const sealed = cipher('keyA').apply(Buffer.concat([fields, initial]));
    return Buffer.concat([sha1('req1', secret), named, sealed]);
  }

  /** The method that was chosen. */
  chosen(): number | undefined {
    const answer = this.#theirs?.apply(Buffer.concat(this.heard).subarray(96));
    return answer?.length === 14 && answer.subarray(0, 8).equals(Buffer.alloc(8))
      ? answer.readUInt32BE(8)
      : undefined;
  }
}

function padded(key: Uint8Array): Buffer<ArrayBuffer> {
  return Buffer.concat([Buffer.alloc(96 - key.length), key]);
}

function sha1(name: string, ...parts: Uint8Array[]): Buffer<ArrayBuffer> {
  const hash = createHash('sha1').update(name);
  for (const part of parts) hash.update(part);
  return hash.digest();
}

function pair(skey?: Buffer): { peer: Initiator; answering: EncryptedHandshake } {
  const peer = new Initiator(skey);
  return {
    peer,
    answering: new EncryptedHandshake({
      torrents: known,
      write: (bytes) => peer.heard.push(bytes),
      insists: () => insisted++,
    }),
  };
}

t.test('RC4 makes the bytes of its published test vectors', async (t) => {
  const cases = [
    ['Key', 'Plaintext', 'bbf316e8d940af0ad3'],
    ['Wiki', 'pedia', '1021bf0420'],
    ['Secret', 'Attack at dawn', '45a01f645fc35b383552544b9bf5'],
  ];
  for (const [key = '', text = '', expected] of cases)
    t.equal(new Rc4(Buffer.from(key)).apply(Buffer.from(text)).toString('hex'), expected, key);
});

t.test('an encrypted handshake is opened, in pieces of any size, and a plain stream chosen', async (t) => {
  const later = Buffer.from('what comes after the handshake');
  for (const pieceBytes of [1, 7, 96, 4096]) {
    for (const [paddingA, paddingC, initialBytes] of [
      [0, 0, 68],
      [512, 512, 0],
      [77, 3, 1024],
    ] as const) {
      const { peer, answering } = pair();
      const initial = randomBytes(initialBytes);
      const opened: Opened[] = [];
      const say = (bytes: Buffer): void => {
        for (let at = 0; at < bytes.length; at += pieceBytes) {
          const result = answering.push(bytes.subarray(at, at + pieceBytes));
          if (result !== undefined) opened.push(result);
        }
      };
      say(peer.first(paddingA));
      t.equal(Buffer.concat(peer.heard).length, 96, 'a key is answered with a key');
      say(peer.second({ initial, padding: paddingC }));
      t.equal(opened.length, 1);
      t.ok(opened[0]?.initial.equals(initial));
      t.equal(peer.chosen(), 1);
      const whole = pair();
      whole.answering.push(whole.peer.first(paddingA));
      const message = Buffer.concat([whole.peer.second({ initial, padding: paddingC }), later]);
      t.ok(whole.answering.push(message)?.rest.equals(later), 'what follows is left as it is');
    }
  }
});

t.test('what cannot be served is refused', async (t) => {
  const refused = { code: 'wire-violation' };
  const initial = Buffer.alloc(68);
  const after = (options: Parameters<Initiator['second']>[0], skey?: Buffer): void => {
    const { peer, answering } = pair(skey);
    answering.push(peer.first(10));
    answering.push(peer.second(options));
  };
  t.throws(() => after({ initial }, randomBytes(20)), refused, 'a torrent that nobody was told about');
  t.throws(() => after({ initial, method: 2 }), refused, 'a peer that insists on encryption');
  t.equal(insisted, 1, 'which is told');
  t.throws(() => after({ initial, paddingSaid: 513 }), refused, 'too much padding');
  t.throws(() => after({ initial: Buffer.alloc(1025) }), refused, 'too long a first message');
  for (const key of [0n, 1n, msePrime - 1n, msePrime]) {
    const bytes = Buffer.from(key.toString(16).padStart(192, '0'), 'hex');
    t.throws(() => pair().answering.push(bytes), refused, 'a key that tells the secret');
  }
  const { answering } = pair();
  t.equal(answering.push(randomBytes(96 + 531)), undefined);
  t.throws(() => answering.push(randomBytes(1)), refused, 'noise without an end');
});

t.test('only the torrents added last are found', async (t) => {
  const torrents = new NamedTorrents(2);
  const hashes = [1, 2, 3].map((byte) => infoHashFromDigest(Buffer.alloc(20, byte)));
  const digest = (hash: string): Buffer => sha1('req2', Buffer.from(hash, 'hex'));
  const [a = infoHash, b = infoHash, c = infoHash] = hashes;
  for (const hash of [a, b, a, c]) torrents.add(hash);
  t.equal(torrents.find(digest(a)), a);
  t.equal(torrents.find(digest(b)), undefined);
  t.equal(torrents.find(digest(c)), c);
});

t.test('a connection begins with a plain or an encrypted handshake', async (t) => {
  const peerId = makePeerId();
  const handshake = encodeHandshake({ infoHash, peerId });
  const rest = Buffer.from('rest');
  const reader = (mayDecrypt = true, write: (bytes: Buffer) => void = () => {}) =>
    new OpeningReader({ torrents: known, write, mayDecrypt: () => mayDecrypt, insists: () => {} });

  t.test('a plain one, in two pieces', async (t) => {
    for (const cut of [1, 19, 20, 67]) {
      const plain = reader();
      t.equal(plain.push(handshake.subarray(0, cut)), undefined);
      const read = plain.push(Buffer.concat([handshake.subarray(cut), rest]));
      t.equal(read?.handshake.infoHash, infoHash);
      t.ok(read?.rest.equals(rest));
    }
  });
  t.test('the handshake within the encrypted one, after it, or half and half', async (t) => {
    for (const initialBytes of [0, 30, 68]) {
      const peer = new Initiator();
      const encrypted = reader(true, (bytes) => peer.heard.push(bytes));
      t.equal(encrypted.push(peer.first(5)), undefined);
      const second = peer.second({ initial: handshake.subarray(0, initialBytes) });
      const first = encrypted.push(second);
      const read = first ?? encrypted.push(handshake.subarray(initialBytes));
      t.equal(read?.handshake.infoHash, infoHash);
    }
  });
  t.test('nothing is computed for those beyond the limit', async (t) => {
    const peer = new Initiator();
    const limited = reader(false, () => t.fail('no answer'));
    t.throws(() => limited.push(Buffer.concat([Buffer.from([1]), peer.first(0)])), {
      code: 'wire-violation',
    });
  });
});
