/** Every bound that is kept towards an upstream. */

export interface UpstreamLimits {
  /** Milliseconds to a connection, TLS included: a dead host is noticed before Nix's own patience ends. */
  connectTimeoutMs: number;
  /** Milliseconds from the request to the head of the answer. Object stores take a second or two on a bad day. */
  headersTimeoutMs: number;
  /** Milliseconds without a byte of a body, while somebody wants them. Exact to half a second. */
  bodyStallMs: number;
  /** Milliseconds for a narinfo in all, against an upstream that sends a byte now and then. */
  narInfoDeadlineMs: number;
  /** Connections to one origin. Nix opens 25 to us; each may be behind one narinfo and one NAR at a time. */
  connectionsPerOrigin: number;
  /** Origins, other than the cache's own, that are connected at once. Idle ones make room. */
  foreignOrigins: number;
  /** Milliseconds that an idle connection is kept, unless the upstream says less: most close theirs after 60 s. */
  keepAliveMs: number;
  /** Bytes of the head of an answer. */
  headMaxBytes: number;
  /** Redirects followed for one request. A CDN in front of an object store takes one or two. */
  redirects: number;
  /** Milliseconds that requests under way get to finish when the cache is closed. */
  drainMs: number;
}

export const defaultUpstreamLimits: Readonly<UpstreamLimits> = {
  connectTimeoutMs: 5_000,
  headersTimeoutMs: 10_000,
  bodyStallMs: 20_000,
  narInfoDeadlineMs: 20_000,
  connectionsPerOrigin: 50,
  foreignOrigins: 64,
  keepAliveMs: 30_000,
  headMaxBytes: 16 * 1024,
  redirects: 5,
  drainMs: 1_000,
};
