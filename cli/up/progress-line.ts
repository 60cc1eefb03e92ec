/** A line of progress: written over in place on a terminal, now and then on a line of its own elsewhere. */

import type { CommandIo } from '../command.ts';

/** Between two drawings on a terminal, and between two lines elsewhere. */
const redrawMs = 100;
const lineMs = 5_000;

export class ProgressLine {
  readonly #io: Pick<CommandIo, 'note' | 'noteIsTerminal'>;
  #shownMs = performance.now();
  #width = 0;

  constructor(io: Pick<CommandIo, 'note' | 'noteIsTerminal'>) {
    this.#io = io;
  }

  show(text: string): void {
    const nowMs = performance.now();
    if (nowMs - this.#shownMs < (this.#io.noteIsTerminal ? redrawMs : lineMs)) return;
    this.#shownMs = nowMs;
    this.#write(text, '');
  }

  /** The last word on this work, which stays. */
  finish(text: string): void {
    this.#write(text, '\n');
  }

  #write(text: string, end: string): void {
    if (this.#io.noteIsTerminal) this.#io.note(`\r${text.padEnd(this.#width)}${end}`);
    else this.#io.note(`${text}\n`);
    this.#width = text.length;
  }
}
