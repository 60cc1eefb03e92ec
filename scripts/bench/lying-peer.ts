/** A peer that has every torrent, and nothing but wrong bytes for all of them, in a process of its own: `lying-peer.ts`. */
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { blockMaxBytes } from '../../swarm/wire/limits.ts';
import { WireDecoder } from '../../swarm/wire/wire.ts';
import { encodePieceHeader, encodeSimple } from '../../swarm/wire/wire-encode.ts';
import { encodeHandshake, HandshakeReader, makePeerId } from '../../swarm/wire/wire-handshake.ts';
import { inputEnd } from './peer-process.ts';

const wrong = Buffer.alloc(blockMaxBytes, 'wrong');

function accept(socket: Socket): void {
  const reader = new HandshakeReader();
  let decoder: WireDecoder | undefined;
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk) => {
    const done = decoder === undefined ? reader.push(chunk) : undefined;
    if (done !== undefined) {
      const { infoHash } = done.handshake;
      socket.write(
        Buffer.concat([encodeHandshake({ infoHash, peerId: makePeerId() }), encodeSimple('haveAll')]),
      );
      decoder = new WireDecoder(
        {
          interested: () => void socket.write(encodeSimple('unchoke')),
          request(index, begin, lengthBytes) {
            socket.write(encodePieceHeader({ index, begin, lengthBytes }));
            socket.write(wrong.subarray(0, lengthBytes));
          },
        },
        { pieces: 'unknown' },
      );
    }
    decoder?.push(done?.rest ?? chunk);
  });
}

const server = createServer({ noDelay: true }, accept).listen(0, '127.0.0.1');
await once(server, 'listening');
const address = server.address();
console.log(JSON.stringify({ port: typeof address === 'object' ? address?.port : 0 }));
await inputEnd();
process.exit();
