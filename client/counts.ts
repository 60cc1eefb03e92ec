/** Where bytes and NAR files came from since the client started. */

export type Origin = 'swarm' | 'http' | 'held';

export class Counts {
  /** From the swarm: of verified pieces. From HTTP: of the bodies of NAR files. Held: given to Nix from the store. */
  readonly bytes = { swarm: 0, http: 0, held: 0 };
  /** `mixed`: part from the swarm, part over HTTP. A held one counts each time it is given. */
  readonly nars = { swarm: 0, http: 0, mixed: 0, held: 0 };
  /** NAR files that no source could give. */
  failed = 0;
  /** Times that a file or piece was thrown away because its bytes were wrong. */
  wrong = 0;
  /** `viewed`: answered from a view of a catalog that is held here, without the network. `cached`: as a source said it a while ago. */
  readonly narInfos = { viewed: 0, found: 0, cached: 0, remembered: 0, absent: 0 };
  /** Files that were passed on unverified, because their narinfo has no FileHash or they are no NAR files. */
  passedThrough = 0;

  /** A whole NAR file was fetched. */
  fetched(bytes: { swarm: number; http: number }): void {
    if (bytes.swarm > 0 && bytes.http > 0) this.nars.mixed++;
    else if (bytes.swarm > 0) this.nars.swarm++;
    else this.nars.http++;
  }
}
