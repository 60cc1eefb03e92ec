/** Where bytes and NAR files came from since the client started. */

export class Counts {
  /** What NAR files were put together from, each byte once; wrong ones that were thrown away included. Held: given to Nix from the store. */
  readonly bytes = { swarm: 0, http: 0, held: 0 };
  /** What came besides, because another source was faster, or because it was wrong. */
  readonly unusedBytes = { swarm: 0, http: 0 };
  /** `mixed`: part from the swarm, part over HTTP. A held one counts each time it is given. */
  readonly nars = { swarm: 0, http: 0, mixed: 0, held: 0 };
  /**
   * Milliseconds that NAR files took less than they would have taken over HTTP alone, by where they came from, as far as that is known;
   * negative when they took longer.
   */
  readonly savedMs = { swarm: 0, http: 0, mixed: 0 };
  /** NAR files that no source could give. */
  failed = 0;
  /** Times that a file or piece was thrown away because its bytes were wrong. */
  wrong = 0;
  /** `viewed`: answered from a view of a catalog that is held here, without the network. `cached`: as a source said it a while ago. */
  readonly narInfos = { viewed: 0, found: 0, cached: 0, remembered: 0, absent: 0 };
  /** Files that were passed on unverified, because their narinfo has no FileHash or they are no NAR files. */
  passedThrough = 0;

  /** A whole NAR file was fetched. `savedMs`: how much faster than over HTTP alone, if that is known. */
  fetched(bytes: { swarm: number; http: number }, savedMs: number | undefined): void {
    const kind = bytes.swarm === 0 ? 'http' : bytes.http === 0 ? 'swarm' : 'mixed';
    this.nars[kind]++;
    this.savedMs[kind] += savedMs ?? 0;
  }

  /** All of them together. */
  get savedTotalMs(): number {
    return this.savedMs.swarm + this.savedMs.http + this.savedMs.mixed;
  }
}
