import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import t from 'tap';
import { lazyNarInfo } from '../../nar/lazy-narinfo.ts';
import { type NarInfo, parseNarInfo, parseNarInfoLines, withSignature, withUrl } from '../../nar/narinfo.ts';
import { row } from '../catalog/made-rows.ts';
import { editedNarInfo } from './edited-narinfo.ts';

function valuesOf(narInfo: NarInfo) {
  const { storePath, url, compression, fileHash, fileSize, narHash, narSize } = narInfo;
  const { references, deriver, system, ca, sigs, text } = narInfo;
  const first = { storePath, url, compression, fileHash, fileSize, narHash, narSize };
  return { ...first, references, deriver, system, ca, sigs, text };
}

function parsed(text: string): NarInfo | undefined {
  try {
    return parseNarInfoLines(text);
  } catch {
    return undefined;
  }
}

t.test('whatever is a narinfo says the same when it is read later', async (t) => {
  let lazy = 0;
  const check = (text: string): boolean => {
    const narInfo = parsed(text);
    if (narInfo === undefined) return true;
    const read = lazyNarInfo(text);
    if (!Object.hasOwn(read, 'references')) lazy++;
    return isDeepStrictEqual(valuesOf(read), valuesOf(narInfo));
  };
  fc.assert(fc.property(editedNarInfo, check), { numRuns: 3000 });
  t.ok(lazy > 100, `${lazy} were read later`);
});

t.test('a line that comes twice is not overlooked', async (t) => {
  const { text } = row(1).narInfo;
  const others = [
    'URL: nar/other',
    'StorePath: /nix/store/0123456789abcdfghijklmnpqrsvwxyz-b',
    'FileSize: 5',
    'NarSize: 5',
  ];
  for (const line of others) {
    const twice = `${text}${line}\n`;
    t.strictSame(valuesOf(lazyNarInfo(twice)), valuesOf(parseNarInfoLines(twice)), line);
  }
});

t.test('it can be changed like any other', async (t) => {
  const { text } = row(1).narInfo;
  for (const change of [
    (each: NarInfo) => withUrl(each, 'nar/b'),
    (each: NarInfo) => withSignature(each, 'c:d'),
  ])
    t.strictSame(valuesOf(change(lazyNarInfo(text))), valuesOf(change(parseNarInfo(text))));
});

t.test('what is no narinfo is refused, or when more of it is read', async (t) => {
  const { text } = row(1).narInfo;
  t.throws(() => lazyNarInfo(text.replace('NarHash: s', 'NarHash: S')), { code: 'narinfo-corrupt' });
  const read = lazyNarInfo(text.replace(/^References: .*$/m, 'References: none'));
  t.throws(() => read.references, { code: 'narinfo-corrupt' });
});
