/** A BitTorrent program as the interoperation tests see it. Each has a driver of its own in this directory. */

export interface BittorrentProgram {
  name: string;
  /** Says why it cannot run on this machine, with a seeder at this address, if it cannot. */
  missing: (seederAddress: string) => string | undefined;
  version: () => string;
  /** Starts a process that downloads one torrent, and goes on seeding it. It talks to nobody but the tracker and its peers. */
  start: (job: Job) => Promise<Download>;
}

export interface Job {
  /** A .torrent file or a magnet link. */
  what: string;
  /** Where the file goes; exists. */
  dir: string;
  /** For what the program itself writes; exists and is empty. */
  home: string;
  /** IP address of the program: where it listens and whence it connects. */
  address: string;
}

export interface Progress {
  /** It has every byte, and has checked it. */
  done: boolean;
  /** Bytes of blocks that came from peers and web seeds, as the program counts them; `undefined` where it does not. */
  downloadedBytes?: number;
  /** Bytes of blocks given to peers. */
  uploadedBytes: number;
}

export interface Download {
  /** Throws when the program ended or says that it failed. */
  progress(): Promise<Progress>;
  /** Ends the program; resolves with its last figures. May be called twice. */
  stop(): Promise<Progress>;
}

export const nothingYet: Progress = { done: false, uploadedBytes: 0 };

/** For programs that tell their figures only while they run. */
export function downloadOf(ask: () => Promise<Progress>, end: () => Promise<void>): Download {
  let last = nothingYet;
  let ended = false;
  const progress = async (): Promise<Progress> => {
    last = await ask();
    return last;
  };
  return {
    progress,
    async stop() {
      if (ended) return last;
      ended = true;
      await progress().catch(() => {});
      await end();
      return last;
    },
  };
}
