/**
 * Whether this machine's connection is paid for by the byte, as NetworkManager says it or guesses. Where nobody says anything, it is taken
 * not to be.
 */

import { execFile } from 'node:child_process';
import type { Logger } from '../../web/log.ts';

/** It changes when a laptop is carried elsewhere. */
export const meteredEveryMs = 60_000;
/** For the bus: an answer takes milliseconds, and starting NetworkManager for it is not wanted. */
const busSeconds = 3;
const deadlineMs = 5_000;

/** `NMMetered`: 1 is yes, 3 a guess that it is, as on a telephone's hotspot. */
const meteredValues = ['u 1', 'u 3'];

/** `undefined`: nobody says. */
export type MeteredAnswer = boolean | undefined;

/** Asks once. Never rejects. */
export function askMetered(env: NodeJS.ProcessEnv = process.env): Promise<MeteredAnswer> {
  const args = [
    ...['--system', '--auto-start=no', `--timeout=${busSeconds}`, 'get-property'],
    ...['org.freedesktop.NetworkManager', '/org/freedesktop/NetworkManager'],
    ...['org.freedesktop.NetworkManager', 'Metered'],
  ];
  return new Promise((resolve) => {
    execFile('busctl', args, { timeout: deadlineMs, env, maxBuffer: 4_096 }, (error, stdout) => {
      if (error !== null || !/^u \d\s*$/.test(stdout)) resolve(undefined);
      else resolve(meteredValues.includes(stdout.trim()));
    });
  });
}

export interface MeteredWatchOptions {
  onChange(metered: MeteredAnswer): void;
  logger: Logger;
  everyMs?: number;
  env?: NodeJS.ProcessEnv;
}

export class MeteredWatch {
  readonly #options: MeteredWatchOptions;
  #metered: MeteredAnswer;
  #timer: NodeJS.Timeout | undefined;
  #asking: Promise<void> = Promise.resolve();
  #closed = false;

  private constructor(options: MeteredWatchOptions) {
    this.#options = options;
  }

  /** Resolves when it was asked once. */
  static async open(options: MeteredWatchOptions): Promise<MeteredWatch> {
    const watch = new MeteredWatch(options);
    await watch.look();
    return watch;
  }

  get metered(): MeteredAnswer {
    return this.#metered;
  }

  /** Asks now; it does so every minute itself. */
  look(): Promise<void> {
    clearTimeout(this.#timer);
    this.#asking = this.#asking.then(() => this.#look());
    return this.#asking;
  }

  /** May be called twice. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#asking;
  }

  async #look(): Promise<void> {
    if (this.#closed) return;
    const { onChange, logger, everyMs = meteredEveryMs, env } = this.#options;
    const metered = await askMetered(env);
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.look(), everyMs);
    // The process does not stay for it.
    this.#timer.unref();
    if (metered === this.#metered) return;
    this.#metered = metered;
    logger.info('connection', { metered: metered ?? 'unknown' });
    onChange(metered);
  }
}
