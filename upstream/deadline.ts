import { NarswarmError } from '../nar/errors.ts';

/**
 * A signal that fires when another one does, or, with `upstream-failed`, when a time has passed: for each small request, `AbortSignal.any` and
 * `timeout` cost as much as the rest.
 */
export class Deadline {
  readonly #controller = new AbortController();
  readonly #outer: AbortSignal;
  readonly #why: (ms: number) => string;
  #ms: number;
  #timer: NodeJS.Timeout;
  #passed = false;

  /** `why`: what the error says when so many milliseconds have passed. */
  constructor(ms: number, outer: AbortSignal, why: (ms: number) => string) {
    this.#outer = outer;
    this.#why = why;
    this.#ms = ms;
    this.#timer = this.#start();
    if (outer.aborted) this.#abort();
    else outer.addEventListener('abort', this.#abort);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Whether the time passed before the other signal fired. */
  get passed(): boolean {
    return this.#passed;
  }

  /** The time begins anew, and is so long from now on. */
  restart(ms: number): void {
    if (ms === this.#ms) {
      this.#timer.refresh();
      return;
    }
    clearTimeout(this.#timer);
    this.#ms = ms;
    this.#timer = this.#start();
  }

  /** It is not needed any more. May be called twice. */
  close(): void {
    clearTimeout(this.#timer);
    this.#outer.removeEventListener('abort', this.#abort);
  }

  readonly #abort = (): void => {
    this.close();
    this.#controller.abort(this.#outer.reason);
  };

  #start(): NodeJS.Timeout {
    return setTimeout(() => {
      this.close();
      this.#passed = true;
      this.#controller.abort(new NarswarmError('upstream-failed', this.#why(this.#ms)));
    }, this.#ms);
  }
}
