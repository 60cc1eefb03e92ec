/** Where the bytes of a NAR file can come from, behind one shape: bytes in order from a given one on. */

export interface NarBytes {
  bytes: Buffer;
  /** True for a whole piece whose hash was compared. */
  checked: boolean;
  /** Who gave them, `host:port`. */
  peers?: readonly string[];
}

export interface OpenNarBytes {
  /** Size of the whole file, if the source says it. */
  lengthBytes: number | undefined;
  /** May be iterated once, and is closed by the end of the iteration or by the signal of `open`. */
  bytes: AsyncIterable<NarBytes>;
  /** Resolves when the first peer can give, before it was asked for anything. Absent: it is not known before the first bytes. */
  live?: Promise<void>;
  /** Before the first bytes were asked for: begins at another byte. What is given then begins there, too. */
  startAt?(fromByte: number): void;
  /** Bytes that came, those included that are not given yet because their piece is not whole. */
  receivedBytes?(): number;
}

export interface NarSource {
  readonly kind: 'swarm' | 'http';
  /** For logs, and for remembering that it gave wrong bytes. */
  readonly name: string;
  /** `undefined` when it does not have the file. Throws when it could not tell. `patient`: there is no other source to go on with. */
  open(fromByte: number, signal: AbortSignal, patient?: boolean): Promise<OpenNarBytes | undefined>;
  /** True when somebody there can give at once: connected, unchoked. Absent: nothing is known. */
  warm?(): boolean;
  /** Nothing came for as long as it is waited for, the last time. */
  stalled?(): boolean;
  /** Its bytes were wrong. */
  spoilt?(): void;
}
