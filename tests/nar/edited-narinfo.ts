/** Narinfos with lines and bytes that are others than Nix writes. */

import fc from 'fast-check';
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

const references = [
  '',
  `${'a'.repeat(32)}-b`,
  `${'a'.repeat(32)}-b.c ${'b'.repeat(32)}-d`,
  `${'a'.repeat(32)}-..`,
  `${'a'.repeat(32)}-.-x`,
];

export const editedNarInfo = fc
  .tuple(
    fc.nat({ max: 50 }),
    fc.array(fc.tuple(fc.nat({ max: 12 }), fc.nat({ max: 2 }), line), { maxLength: 3 }),
    fc.constantFrom(...references),
    fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { maxLength: 2 }),
  )
  .map(([n, edits, names, flips]) => {
    const lines = row(n).narInfo.text.replace('References: ', `References: ${names}`).split('\n');
    for (const [at, remove, text] of edits) lines.splice(at, remove, text);
    const bytes = Buffer.from(lines.join('\n'), 'latin1');
    for (const [at, value] of flips) bytes[at % bytes.length] = value;
    return bytes.toString('latin1');
  });
