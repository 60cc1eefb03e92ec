/** What a subcommand is. One file each; commands.ts lists them. */

import { NarswarmError } from '../nar/errors.ts';
import { type Flags, type FlagValues, parseCommandLine } from './flags.ts';
import { type CommandHelp, printCommandHelp } from './help.ts';

/** What a command has of the process around it. */
export interface CommandIo {
  /** Results, and the ready line. */
  out(text: string): void;
  /** Notes and progress for people. */
  note(text: string): void;
  /** Progress is shown only where somebody looks. */
  readonly noteIsTerminal: boolean;
  /** Columns of standard output, when it is a terminal. */
  readonly columns: number | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Aborted at the first SIGTERM or SIGINT. */
  readonly signal: AbortSignal;
  /** Says that the command runs until it is stopped: then that is success. */
  serving(): void;
}

export interface CommandCall<F extends Flags> {
  readonly values: FlagValues<F>;
  readonly positionals: readonly string[];
  /** Flags that were given, as opposed to defaulted. */
  readonly given: ReadonlySet<string>;
  readonly io: CommandIo;
}

export interface CommandDefinition<F extends Flags> extends CommandHelp {
  readonly flags: F;
  /** How many positional arguments there may be. */
  readonly positionals?: { min: number; max: number };
  /** Resolves with the exit status. */
  run(call: CommandCall<F>): Promise<number>;
}

export interface Command {
  readonly name: string;
  readonly summary: string;
  /** Parses `args`, prints help or runs. Throws config-invalid for a wrong command line. */
  main(args: readonly string[], io: CommandIo): Promise<number>;
}

export function defineCommand<F extends Flags>(definition: CommandDefinition<F>): Command {
  const { name, summary, flags, positionals: { min, max } = { min: 0, max: 0 } } = definition;
  return {
    name,
    summary,
    async main(args, io) {
      const { values, positionals, given, help } = await parseCommandLine(flags, args);
      if (help) {
        io.out(printCommandHelp(definition, io.columns));
        return 0;
      }
      if (positionals.length < min) throw usageError(`${definition.usage ?? 'an argument'} is missing`);
      const extra = positionals[max];
      if (extra !== undefined) throw usageError(`${JSON.stringify(extra)} is one argument too many`);
      return definition.run({ values, positionals, given, io });
    },
  };
}

/** Something that parsing flag by flag cannot see. */
export function usageError(message: string): NarswarmError {
  return new NarswarmError('config-invalid', message);
}
