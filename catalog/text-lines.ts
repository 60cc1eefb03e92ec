/** The lines `Name: value` of a signed text: printable ASCII, each ended by a newline. */

export interface TextLine {
  readonly name: string;
  readonly value: string;
  /** Of the line's first character in the text. */
  readonly offset: number;
}

const linePattern = /^([\x21-\x39\x3b-\x7e]+): ([\x20-\x7e]+)$/;

/** One after the other, as they are asked for. Throws what `corrupt` gives for the first that is not such a line, at its offset. */
export function* textLines(
  text: string,
  corrupt: (why: string, offset: number) => Error,
): Generator<TextLine> {
  let offset = 0;
  while (offset < text.length) {
    const end = text.indexOf('\n', offset);
    if (end === -1) throw corrupt('the last line has no newline', text.length);
    const [, name, value] = linePattern.exec(text.slice(offset, end)) ?? [];
    if (name === undefined || value === undefined) throw corrupt('a line is not `Name: value`', offset);
    yield { name, value, offset };
    offset = end + 1;
  }
}
