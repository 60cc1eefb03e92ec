/**
 * SIGTERM and SIGINT: the first asks to drain, the second ends the process, and so does the clock when draining takes
 * too long.
 */

/** Ctrl-C must feel like Ctrl-C. */
export const drainLimitMs = 2000;

const signalNames = ['SIGINT', 'SIGTERM'] as const;

export interface Signals {
  /** Aborted at the first signal. */
  readonly signal: AbortSignal;
  /** From now on a signal is the usual end, and no interruption. */
  serving(): void;
  close(): void;
}

export function listenForSignals(): Signals {
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  let serving = false;
  const onSignal = (): void => {
    if (controller.signal.aborted) process.exit(1);
    timer = setTimeout(() => {
      process.stderr.write(`narswarm: not all was drained in ${drainLimitMs / 1000} s\n`);
      process.exit(serving ? 0 : 1);
    }, drainLimitMs);
    controller.abort();
  };
  for (const name of signalNames) process.on(name, onSignal);
  return {
    signal: controller.signal,
    serving() {
      serving = true;
    },
    close() {
      clearTimeout(timer);
      for (const name of signalNames) process.off(name, onSignal);
    },
  };
}

/** Resolves when `signal` is aborted. Something else must keep the process alive: a server does. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
