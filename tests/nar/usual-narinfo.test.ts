import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import t from 'tap';
import { parseNarInfo, parseNarInfoLines } from '../../nar/narinfo.ts';
import { storeDirOf, storeHashOf } from '../../nar/store-path.ts';
import { readUsualNarInfo, usualNarInfo } from '../../nar/usual-narinfo.ts';
import { row } from '../catalog/made-rows.ts';

const line = fc.constantFrom(
  ...[
    'StorePath: /nix/store/',
    'URL: nar/a.nar.xz',
    'URL: ',
    'Compression: xz',
    'Compression: ',
    'FileHash: ',
  ],
  ...[
    'FileSize: 5',
    'FileSize: 9999999999999999',
    'NarSize: 0',
    'NarSize: 7',
    'References: a',
    'References: ',
  ],
  ...[
    'Deriver: x',
    'Deriver: ',
    'System: x',
    'Sig: x',
    'Sig: ',
    'CA: x',
    'CA: ',
    'Other: y',
    'nothing',
    '',
    ' ',
    '\u00e9',
  ],
);

t.test('the usual form is what the reader of lines takes, and says the same', async (t) => {
  let taken = 0;
  const check = (text: string): boolean => {
    const usual = usualNarInfo(text);
    if (usual === undefined) return true;
    taken++;
    const parsed = parseNarInfoLines(text);
    return (
      parsed.text === text &&
      storeDirOf(parsed.storePath) === usual.storeDir &&
      storeHashOf(parsed.storePath) === usual.storeHash &&
      parsed.fileHash === usual.fileHash &&
      isDeepStrictEqual(readUsualNarInfo(text), parsed)
    );
  };
  const references = [
    '',
    `${'a'.repeat(32)}-b`,
    `${'a'.repeat(32)}-b.c ${'b'.repeat(32)}-d`,
    `${'a'.repeat(32)}-..`,
    `${'a'.repeat(32)}-.-x`,
  ];
  fc.assert(
    fc.property(
      fc.nat({ max: 50 }),
      fc.array(fc.tuple(fc.nat({ max: 12 }), fc.nat({ max: 2 }), line), { maxLength: 3 }),
      fc.constantFrom(...references),
      fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { maxLength: 2 }),
      (n, edits, names, flips) => {
        const lines = row(n).narInfo.text.replace('References: ', `References: ${names}`).split('\n');
        for (const [at, remove, text] of edits) lines.splice(at, remove, text);
        const bytes = Buffer.from(lines.join('\n'), 'latin1');
        for (const [at, value] of flips) bytes[at % bytes.length] = value;
        return check(bytes.toString('latin1'));
      },
    ),
    { numRuns: 3000 },
  );
  t.ok(taken > 100, `${taken} were taken`);
  t.ok(check(row(1).narInfo.text));
  t.equal(usualNarInfo('x'.repeat(40_000)), undefined);
});

t.test('what is not usual is left to the parser', async (t) => {
  const { text } = row(1).narInfo;
  for (const other of [`${text}More: x\n`, text.replace('xz\n', 'xz \n'), text.slice(0, -1), `${text}\n`]) {
    t.equal(usualNarInfo(other), undefined);
  }
  t.throws(() => parseNarInfo(text.slice(0, -1)), { code: 'narinfo-corrupt' });
});
