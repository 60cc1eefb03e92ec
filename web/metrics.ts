/**
 * Counters and gauges, told in Prometheus' text format 0.0.4.
 *
 * A name, label or value that cannot be is a mistake in the program, and thrown as a plain Error.
 */

/** Label values of one metric. Labels come from small closed sets, never hashes or peers; this stops a mistake. */
export const metricSeriesMax = 64;

export const metricsContentType = 'text/plain; version=0.0.4; charset=utf-8';

export type Labels = Readonly<Record<string, string>>;

export interface Counter {
  /** Adds 1 or `count`, which may not be negative. */
  add(count?: number, labels?: Labels): void;
}

export interface Gauge {
  set(value: number, labels?: Labels): void;
}

/** What a callback gives: one value, or one for each set of labels. */
export type Reading = number | Iterable<{ labels: Labels; value: number }>;

type Kind = 'counter' | 'gauge';

interface Metric {
  kind: Kind;
  help: string;
  read(): Iterable<{ labels: Labels; value: number }>;
}

export class Metrics {
  readonly #metrics = new Map<string, Metric>();

  /** Names are `narswarm_<noun>_<unit>`, as in `narswarm_uploaded_bytes`. */
  counter(name: string, help: string): Counter {
    const series = new Series();
    this.#register(name, { kind: 'counter', help, read: () => series.read() });
    return {
      add(count = 1, labels = {}) {
        if (!(count >= 0)) throw new Error(`${name}: a counter cannot go down`);
        series.set(labels, (value) => value + count);
      },
    };
  }

  gauge(name: string, help: string): Gauge {
    const series = new Series();
    this.#register(name, { kind: 'gauge', help, read: () => series.read() });
    return { set: (value, labels = {}) => series.set(labels, () => value) };
  }

  /** A metric whose value is kept elsewhere and read when the metrics are asked for. */
  callback(kind: Kind, name: string, help: string, read: () => Reading): void {
    this.#register(name, {
      kind,
      help,
      read() {
        const reading = read();
        return typeof reading === 'number' ? [{ labels: {}, value: reading }] : reading;
      },
    });
  }

  /** All metrics in the order in which they were made. One whose callback throws is left out. */
  text(): string {
    return [...this.#metrics].map(([name, metric]) => metricText(name, metric)).join('');
  }

  #register(name: string, metric: Metric): void {
    if (!/^narswarm(_[a-z0-9]+){2,}$/.test(name)) throw new Error(`${name}: not narswarm_<noun>_<unit>`);
    if (this.#metrics.has(name)) throw new Error(`${name}: made twice`);
    this.#metrics.set(name, metric);
  }
}

class Series {
  readonly #values = new Map<string, { labels: Labels; value: number }>();

  set(labels: Labels, change: (value: number) => number): void {
    const key = labelText(labels);
    const entry = this.#values.get(key);
    if (entry !== undefined) {
      entry.value = change(entry.value);
      return;
    }
    if (this.#values.size >= metricSeriesMax) throw new Error(`more than ${metricSeriesMax} sets of labels`);
    this.#values.set(key, { labels, value: change(0) });
  }

  /** A metric without labels exists from the start. */
  read(): Iterable<{ labels: Labels; value: number }> {
    return this.#values.size === 0 ? [{ labels: {}, value: 0 }] : this.#values.values();
  }
}

function metricText(name: string, metric: Metric): string {
  let samples: string[];
  try {
    samples = [...metric.read()].map(
      ({ labels, value }) => `${name}${labelText(labels)} ${numberText(value)}\n`,
    );
  } catch {
    return '';
  }
  const help = metric.help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
  return `# HELP ${name} ${help}\n# TYPE ${name} ${metric.kind}\n${samples.join('')}`;
}

function labelText(labels: Labels): string {
  const parts = Object.entries(labels)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => {
      if (!/^[a-z][a-z0-9_]*$/.test(name)) throw new Error(`${name}: not the name of a label`);
      return `${name}="${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`;
    });
  return parts.length === 0 ? '' : `{${parts.join(',')}}`;
}

function numberText(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return '+Inf';
  if (value === Number.NEGATIVE_INFINITY) return '-Inf';
  return String(value);
}

/** All metrics of one answer are read in one go: one look serves them all. */
export function keptForThisTurn<T>(look: () => T): () => T {
  let kept: { value: T } | undefined;
  return () => {
    if (kept === undefined) {
      kept = { value: look() };
      queueMicrotask(() => {
        kept = undefined;
      });
    }
    return kept.value;
  };
}
