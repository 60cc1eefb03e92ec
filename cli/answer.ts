/** Reads what a program answers, within bounds: something else may listen at its address. */

import { NarswarmError } from '../nar/errors.ts';

/** The body as text. Throws upstream-failed when it has more bytes than that: it is not what was asked for. */
export async function readText(answer: Response, maxBytes: number): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  for await (const chunk of answer.body ?? []) {
    text += decoder.decode(chunk, { stream: true });
    if (text.length > maxBytes)
      throw new NarswarmError('upstream-failed', `an answer of more than ${maxBytes} bytes`);
  }
  return text + decoder.decode();
}
