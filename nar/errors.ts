/**
 * The one error class of the project. Branch on `code`, never on the message.
 *
 * "Absent" is a return value (`undefined`); an error says that something is wrong or could not be told.
 */

/** Every code, with what it means. A new failure that callers must tell apart gets a line here. */
export const errorCodes = {
  // Nix formats
  'hash-invalid': 'text is not a hash in nix32, hex, base64 or SRI form',
  'store-path-invalid': 'text is not a store path',
  'key-invalid': 'text is not a key `name:base64`, or has the wrong length',
  'narinfo-corrupt': 'a narinfo breaks a rule of its format',
  'cache-info-corrupt': 'a nix-cache-info breaks a rule of its format',
  'nar-corrupt': 'bytes are not a NAR; `offset` is that of the first byte that does not fit',
  'nar-truncated': 'a NAR ends before its last parenthesis',
  // Verification of a NAR file: the reasons for refusing one
  'signature-untrusted': 'no signature by a trusted key, and not content-addressed',
  'store-dir-mismatch': 'the store path is not under the store directory of the cache',
  'nar-file-missing': 'the URL of the narinfo names no file',
  'path-escapes': 'a name or URL would leave the source directory',
  'file-size-mismatch': 'FileSize differs from the size of the NAR file',
  'file-hash-mismatch': 'FileHash differs from the SHA-256 of the NAR file',
  'nar-size-mismatch': 'NarSize differs from the size of the NAR',
  'nar-hash-mismatch': 'NarHash differs from the SHA-256 of the NAR',
  'decompression-failed': 'the compressed bytes are corrupt or cut short',
  'decompression-bomb': 'decompression gives more than NarSize bytes',
  'compression-unsupported': 'a compression that narswarm cannot read',
  'verify-crashed': 'the thread that verified a NAR file died over it',
  // Catalog
  'torrentinfo-corrupt': 'a torrentinfo breaks a rule of its format',
  'torrentinfo-untrusted': 'no valid signature by a configured catalog key',
  'pack-corrupt': 'the manifest of a pack breaks a rule of its format',
  'catalog-incompatible': 'the catalog database has another schema version or is no catalog',
  'catalog-corrupt': 'the catalog database holds something that cannot be',
  // The log of a catalog, and following it
  'head-corrupt': 'the head of a catalog breaks a rule of its format',
  'head-untrusted': 'no valid signature on the head of a catalog by a key that is trusted for it',
  'head-expired': 'the head of a catalog is older than it may be',
  'catalog-rollback': 'a catalog is offered in an earlier state than was seen before',
  'catalog-fork': 'a catalog is offered with another past than was seen before',
  'catalog-gap': 'the segments of a catalog do not follow each other',
  'segment-missing': 'a file of a catalog cannot be had',
  'segment-truncated': 'a segment of a catalog ends too early',
  'segment-mismatch': 'a file of a catalog is not the one that its head names',
  'segment-corrupt': 'a segment of a catalog breaks a rule of its format',
  'record-corrupt': 'a record of a catalog breaks a rule of its format',
  revoked: 'a NAR file was found wrong and taken out of the catalog for good',
  'coverage-invalid':
    'what a mirror says that it holds breaks a rule of its format, or is about another catalog',
  // BitTorrent
  'bencode-invalid': 'bytes are not canonical bencode; `offset` is that of the first bad byte',
  'torrent-invalid': 'an info dictionary is not a canonical torrent',
  'wire-violation': 'a peer broke the protocol or a limit',
  'swarm-stalled': 'no peer delivered a byte in time',
  'swarm-exhausted': 'no usable peer is left',
  'piece-mismatch': 'bytes from a web server are not the piece that the torrent says',
  'tracker-failed': 'a tracker gave no usable answer',
  'dht-failed': 'the process of the DHT node does not start, cannot listen, or gives no answer',
  // Around
  'upstream-failed': 'an HTTP cache, or for a catalog the swarm, gave no usable answer',
  'store-failed': 'the disk refused a read or a write',
  'not-held': 'a NAR file is no longer what it was when it was verified',
  'config-invalid': 'the command line or the configuration is wrong',
  aborted: 'given up because the caller went away or the program is stopping',
} as const;

export type ErrorCode = keyof typeof errorCodes;

export interface NarswarmErrorOptions {
  cause?: unknown;
  /** Offset in bytes from the start of the input at which it stopped making sense. */
  offset?: number;
}

export class NarswarmError extends Error {
  override readonly name = 'NarswarmError';
  readonly code: ErrorCode;
  readonly offset: number | undefined;

  constructor(code: ErrorCode, message: string, options: NarswarmErrorOptions = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.offset = options.offset;
  }
}

/** True if `error` is a NarswarmError, with one of `codes` when any are given. */
export function isNarswarmError(error: unknown, ...codes: ErrorCode[]): error is NarswarmError {
  return error instanceof NarswarmError && (codes.length === 0 || codes.includes(error.code));
}
