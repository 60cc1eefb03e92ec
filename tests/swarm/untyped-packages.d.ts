// What the tests use of packages that come without types.

declare module 'create-torrent' {
  export default function createTorrent(
    input: Uint8Array & { name: string },
    options: { name: string; pieceLength: number; announceList: string[][] },
    callback: (error: Error | null, torrent: Uint8Array) => void,
  ): void;
}

declare module 'parse-torrent' {
  export default function parseTorrent(torrent: Uint8Array | string): Promise<{
    infoHash: string;
    name?: string;
    dn?: string;
    length?: number;
    pieceLength?: number;
    pieces?: string[];
    announce: string[];
    urlList: string[];
    files?: { path: string; length: number }[];
  }>;
}
