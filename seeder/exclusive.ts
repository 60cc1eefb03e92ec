/** Runs what has the same key one after the other, and everything else side by side. */
export class Exclusive {
  readonly #last = new Map<string, Promise<unknown>>();

  async run<T>(key: string, action: () => Promise<T>): Promise<T> {
    const before = this.#last.get(key);
    const mine = (async () => {
      // How the one before ended is for its own caller.
      await before?.catch(() => undefined);
      return action();
    })();
    this.#last.set(key, mine);
    try {
      return await mine;
    } finally {
      if (this.#last.get(key) === mine) this.#last.delete(key);
    }
  }
}

/** Calls `action` for each item, at most `limit` at once. The first error stops it, after those under way have ended. */
export async function forEachBounded<T>(
  items: AsyncIterable<T>,
  limit: number,
  action: (item: T) => Promise<void>,
): Promise<void> {
  const running = new Set<Promise<void>>();
  let failure: { error: unknown } | undefined;
  let wake = (): void => undefined;
  try {
    for await (const item of items) {
      const one: Promise<void> = action(item)
        .catch((error: unknown) => {
          failure ??= { error };
        })
        .finally(() => {
          running.delete(one);
          wake();
        });
      running.add(one);
      if (running.size >= limit) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      if (failure !== undefined) break;
    }
  } finally {
    await Promise.all(running);
  }
  if (failure !== undefined) throw failure.error;
}
