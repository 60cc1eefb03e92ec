import { NarswarmError } from '../nar/errors.ts';

/** A signal that fires when another one does or a time has passed: for each small request, `AbortSignal.any` and `timeout` cost as much as the rest. */
export class Deadline {
  readonly #controller = new AbortController();
  readonly #outer: AbortSignal;
  readonly #timer: NodeJS.Timeout;
  #passed = false;

  constructor(ms: number, outer: AbortSignal) {
    this.#outer = outer;
    this.#timer = setTimeout(() => {
      this.#passed = true;
      this.#controller.abort(new NarswarmError('upstream-failed', `nothing whole in ${ms} ms`));
    }, ms);
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

  /** It is not needed any more. May be called twice. */
  close(): void {
    clearTimeout(this.#timer);
    this.#outer.removeEventListener('abort', this.#abort);
  }

  readonly #abort = (): void => {
    this.close();
    this.#controller.abort(this.#outer.reason);
  };
}
