/** One line at the bottom of a terminal that is written over, while the lines of a log go by above it. */

/** Back to the beginning of the line, and what is there away. */
const clearLine = '\r\x1b[K';

export class ProgressLine {
  readonly #write: (text: string) => void;
  #shown = '';

  constructor(write: (text: string) => void) {
    this.#write = write;
  }

  /** `text` without line ends; at most a line long, or it cannot be written over. */
  show(text: string): void {
    this.#shown = text;
    this.#write(`${clearLine}${text}`);
  }

  /** A line that stays, ended by a line end. */
  above(line: string): void {
    this.#write(this.#shown === '' ? line : `${clearLine}${line}${this.#shown}`);
  }

  /** Takes the line away. */
  end(): void {
    if (this.#shown !== '') this.#write(clearLine);
    this.#shown = '';
  }
}
