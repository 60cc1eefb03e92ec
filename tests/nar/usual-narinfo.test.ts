import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import t from 'tap';
import { parseNarInfo, parseNarInfoLines } from '../../nar/narinfo.ts';
import { storeDirOf, storeHashOf } from '../../nar/store-path.ts';
import { readUsualNarInfo, usualNarInfo } from '../../nar/usual-narinfo.ts';
import { row } from '../catalog/made-rows.ts';
import { editedNarInfo } from './edited-narinfo.ts';

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
  fc.assert(fc.property(editedNarInfo, check), { numRuns: 3000 });
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
