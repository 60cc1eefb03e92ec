/** What scripts say when their command line is wrong or asks for help. */

/** What `read` makes of the command line. With `--help`, or when it throws, the process ends: with `usage`, and with status 2 when it is wrong. */
export function readOptions<T>(usage: string, read: () => T): T {
  const args = process.argv.slice(2);
  if (args.includes('--help') || args.includes('-h')) {
    console.log(usage);
    process.exit(0);
  }
  try {
    return read();
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n\n${usage}`);
    process.exit(2);
  }
}

/** Those of `all` that a list with commas names; all of them without one. Throws for a name that is none. */
export function namedIn<Name extends string>(all: readonly Name[], list: string | undefined): Name[] {
  if (list === undefined) return [...all];
  const wanted = list.split(',');
  const strange = wanted.find((name) => !all.some((each) => each === name));
  if (strange !== undefined) throw new Error(`there is no ${strange}; there are ${all.join(', ')}`);
  return all.filter((name) => wanted.includes(name));
}

/** A whole number of at least one. Throws for anything else. */
export function countOf(name: string, text: string): number {
  const count = Number(text);
  if (!Number.isSafeInteger(count) || count < 1)
    throw new Error(`--${name} takes a whole number, not ${text}`);
  return count;
}
