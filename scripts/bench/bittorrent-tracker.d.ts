/** The part of bittorrent-tracker that is measured; it comes with webtorrent, without types. */
declare module 'bittorrent-tracker' {
  interface Listener {
    address(): { port: number };
  }

  export class Server {
    constructor(options: {
      ws: boolean;
      stats: boolean;
      filter(infoHash: string, params: unknown, decide: (error: Error | null) => void): void;
    });
    readonly http: Listener;
    readonly udp: Listener;
    listen(port: number, hosts: { http: string; udp: string; udp6: string }): void;
    once(event: 'listening', listener: (value: unknown) => void): void;
  }
}
