/**
 * A status object as a page for people. It needs no script, no other file and no network; it reloads itself.
 */

/** Deepest nesting that gets tables of its own; what lies deeper is shown as JSON. */
const depthMax = 4;
/** Rows of one table, so that a long list of refusals does not make a page of megabytes. */
export const pageRowsMax = 200;
const cellMaxCharacters = 500;

export interface PageOptions {
  title: string;
  /** One or two sentences on what is seen here. */
  intro?: string;
  /** The status in words, a line each. */
  summary?: readonly string[];
  /** Plain data: what `/status` gives as JSON. */
  status: object;
  /** Other pages of the program. */
  links?: { text: string; href: string }[];
  /** 5 by default; 0 leaves the page as it is. */
  refreshSeconds?: number;
}

export function statusPage(options: PageOptions): string {
  const { title, intro, summary = [], status, links = [], refreshSeconds = 5 } = options;
  const refresh =
    refreshSeconds > 0 ? `<meta http-equiv="refresh" content="${Math.ceil(refreshSeconds)}">` : '';
  const nav = links
    .map(({ text, href }) => `<a href="${escapeHtml(href)}">${escapeHtml(text)}</a>`)
    .join(' · ');
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
${refresh}
<title>${escapeHtml(title)}</title>
<style>${style}</style>
</head>
<body>
<main>
<h1>${escapeHtml(title)}</h1>
${intro === undefined ? '' : `<p>${escapeHtml(intro)}</p>`}
${summary.length === 0 ? '' : `<ul class="summary">${summary.map((line) => `<li>${escapeHtml(line)}</li>`).join('\n')}</ul>`}
${section(status, 0)}
${nav === '' ? '' : `<p class="links">${nav}</p>`}
</main>
</body>
</html>
`;
}

/** What a browser is told about such a page: it runs nothing and loads nothing. */
export const pageSecurityPolicy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** `1536` → `1.5 KiB`. */
export function printBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = bytes;
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || Math.abs(value) >= 100 ? 0 : 1;
  return `${value.toFixed(digits)} ${units[unit]}`;
}

const style = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 0; } main { max-width: 60rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; } h2 { font-size: 1.05rem; margin: 1.5rem 0 .25rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .75rem .3rem 0; border-bottom: 1px solid #8884; vertical-align: top; overflow-wrap: anywhere; }
table.figures th { font-weight: normal; opacity: .75; width: 40%; } td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
table.figures td.number { text-align: left; } .links { margin-top: 2rem; } .none { opacity: .6; } ul.summary { padding: 0; list-style: none; }
`;

/** The plain values of an object as one table, then each object or list in it under its own heading. */
function section(value: object, depth: number, unitName = ''): string {
  const entries = Object.entries(value);
  const isNested = (each: unknown): each is object =>
    typeof each === 'object' && each !== null && depth < depthMax;
  const figures = entries.filter(([, each]) => !isNested(each));
  const rows = figures
    .slice(0, pageRowsMax)
    .map(
      ([name, each]) =>
        `<tr><th scope="row">${escapeHtml(words(name))}</th>${cell(each, `${unitName} ${name}`)}</tr>`,
    );
  const table =
    rows.length === 0 ? '' : `<table class="figures">${rows.join('\n')}</table>${more(figures.length)}`;
  const nested = entries.flatMap(([name, each]) => {
    if (!isNested(each)) return [];
    const heading = `<h2>${escapeHtml(words(name))}</h2>`;
    return [`${heading}\n${Array.isArray(each) ? list(each) : section(each, depth + 1, name)}`];
  });
  return [table, ...nested].join('\n');
}

/** Objects become a table with a column for each name that any of them has; other things one column. */
function list(items: unknown[]): string {
  if (items.length === 0) return '<p class="none">none</p>';
  const shown = items.slice(0, pageRowsMax);
  const records = shown.map((item) => (typeof item === 'object' && item !== null ? item : { '': item }));
  const names = [...new Set(records.flatMap((record) => Object.keys(record)))];
  const head = names.map((name) => `<th scope="col">${escapeHtml(words(name))}</th>`).join('');
  const body = records.map((record) => {
    const values = new Map<string, unknown>(Object.entries(record));
    return `<tr>${names.map((name) => cell(values.get(name), name)).join('')}</tr>`;
  });
  return `<table><thead><tr>${head}</tr></thead>\n${body.join('\n')}</table>${more(items.length)}`;
}

function more(count: number): string {
  return count > pageRowsMax ? `<p class="none">and ${count - pageRowsMax} more</p>` : '';
}

/** A number whose name speaks of bytes is shown in a unit that can be read, its exact value as the title. */
function cell(value: unknown, name: string): string {
  if (typeof value === 'number' || typeof value === 'bigint') {
    const exact = value.toLocaleString('en-US');
    const text = /bytes/i.test(name) ? printBytes(Number(value)) : exact;
    return `<td class="number" title="${escapeHtml(exact)}">${escapeHtml(text)}</td>`;
  }
  return `<td>${escapeHtml(text(value))}</td>`;
}

function text(value: unknown): string {
  if (value === undefined || value === null || value === '') return '–';
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  const all = typeof value === 'string' ? value : (JSON.stringify(value, plain) ?? String(value));
  return all.length > cellMaxCharacters ? `${all.slice(0, cellMaxCharacters)}…` : all;
}

function plain(_name: string, value: unknown): unknown {
  return typeof value === 'bigint' ? Number(value) : value;
}

/** `uploadedBytes` → `uploaded bytes`. */
function words(name: string): string {
  return name.replace(
    /([a-z0-9])([A-Z])/g,
    (_all, before: string, after: string) => `${before} ${after.toLowerCase()}`,
  );
}
