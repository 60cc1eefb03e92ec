/**
 * Reads what tap prints (TAP 14) and counts tests: the innermost named ones, each of which keeps or breaks a promise.
 * Assertions are not counted, because one more of them is not one more test.
 */

export interface TestFile {
  name: string;
  /** As tap prints it, for instance `1.2s`; '' when it does not. */
  time: string;
  passed: number;
  failed: number;
  /** Names, with the reason. */
  skipped: string[];
  failures: string[];
  /** The output without what went well. */
  trouble: string[];
}

export interface TestRun {
  passed: number;
  failed: number;
  /** `file > test > test (reason)` */
  skipped: string[];
  failures: string[];
}

interface OpenTest {
  name: string;
  indent: number;
  /** Named tests within: then it is not an innermost one itself. */
  hasTests: boolean;
  failedWithin: boolean;
}

/** Calls `onFile` at the end of each file. */
export async function readTap(
  lines: AsyncIterable<string>,
  onFile: (file: TestFile) => void,
): Promise<TestRun> {
  const run: TestRun = { passed: 0, failed: 0, skipped: [], failures: [] };
  const reader = new TapReader((file) => {
    run.passed += file.passed;
    run.failed += file.failed;
    run.skipped.push(...file.skipped);
    run.failures.push(...file.failures);
    onFile(file);
  });
  for await (const line of lines) reader.line(line);
  return run;
}

const subtestPattern = /^( *)# Subtest: (.*)$/;
const pointPattern =
  /^( *)(ok|not ok) \d+(?: - (.*?))?(?:\s+# (SKIP|TODO)\b ?(.*?))?(?:\s+# time=(\S+))?(?: \{)?$/i;

class TapReader {
  readonly #onFile: (file: TestFile) => void;
  #open: OpenTest[] = [];
  #file = emptyFile('');
  /** Indentation of the diagnostics being read. */
  #yamlIndent = -1;
  #pointWentWell = false;

  constructor(onFile: (file: TestFile) => void) {
    this.#onFile = onFile;
  }

  line(line: string): void {
    if (this.#yamlIndent >= 0) {
      if (line === `${' '.repeat(this.#yamlIndent)}...`) this.#yamlIndent = -1;
      if (!this.#pointWentWell) this.#file.trouble.push(line);
      return;
    }
    const yaml = /^( +)---$/.exec(line);
    if (yaml?.[1] !== undefined) {
      this.#yamlIndent = yaml[1].length;
      if (!this.#pointWentWell) this.#file.trouble.push(line);
      return;
    }
    const subtest = subtestPattern.exec(line);
    const point = pointPattern.exec(line);
    if (subtest !== null) this.#begin(subtest[1]?.length ?? 0, subtest[2] ?? '');
    else if (point !== null) this.#point(point, line);
    else if (!/^\s*(1\.\.\d+|TAP version \d+|# time=.*|)$/.test(line)) this.#file.trouble.push(line);
  }

  #begin(indent: number, name: string): void {
    if (indent === 0) this.#file = emptyFile(name);
    const parent = this.#open.at(-1);
    if (parent !== undefined && indent > 0) parent.hasTests = true;
    this.#open.push({ name, indent, hasTests: false, failedWithin: false });
  }

  #point(
    [, spaces = '', verdict, description = '', directive, reason = '', time = '']: RegExpExecArray,
    line: string,
  ): void {
    const ok = verdict === 'ok' || directive?.toUpperCase() === 'TODO';
    const skipped = directive?.toUpperCase() === 'SKIP';
    this.#pointWentWell = ok;
    if (!ok) this.#file.trouble.push(line);
    const top = this.#open.at(-1);
    const closes = top?.indent === spaces.length ? this.#open.pop() : undefined;
    if (spaces.length === 0 && closes === undefined) this.#file = emptyFile(description);
    if (skipped) this.#skip(closes?.name ?? description, reason);
    else if (closes !== undefined || spaces.length === 0) this.#end(closes, description, ok);
    if (spaces.length > 0) return;
    this.#onFile({ ...this.#file, time });
  }

  /** A test, or a file, is over. Failures are counted where they happened, not again in what is around them. */
  #end(test: OpenTest | undefined, description: string, ok: boolean): void {
    const parent = this.#open.at(-1);
    const failedWithin = test?.failedWithin === true;
    if (parent !== undefined && (!ok || failedWithin)) parent.failedWithin = true;
    if (!ok && !failedWithin) {
      this.#file.failed++;
      this.#file.failures.push(this.#path(test?.name ?? description));
      return;
    }
    // A file of bare assertions counts as one test; one whose tests were all skipped has none.
    const isFile = parent === undefined;
    const innermost = test?.hasTests !== true && !(isFile && this.#file.skipped.length > 0);
    if (ok && innermost) this.#file.passed++;
  }

  #skip(name: string, reason: string): void {
    const parent = this.#open.at(-1);
    if (parent !== undefined) parent.hasTests = true;
    this.#file.skipped.push(`${this.#path(name)}${reason === '' ? '' : ` (${reason})`}`);
  }

  #path(name: string): string {
    return [...this.#open.map((test) => test.name), name].join(' > ');
  }
}

function emptyFile(name: string): TestFile {
  return { name, time: '', passed: 0, failed: 0, skipped: [], failures: [], trouble: [] };
}
