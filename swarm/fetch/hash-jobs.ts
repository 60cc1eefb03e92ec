/** What a HashThread and its other side say to each other: lists of jobs, and lists of answers. */

export type HashJob =
  | { readonly kind: 'sha1'; readonly bytes: Uint8Array }
  | { readonly kind: 'update'; readonly stream: number; readonly bytes: Uint8Array }
  | { readonly kind: 'digest' | 'drop'; readonly stream: number };

export interface NumberedJob {
  readonly id: number;
  readonly job: HashJob;
}

export interface HashAnswer {
  readonly id: number;
  readonly digest?: Uint8Array;
}
