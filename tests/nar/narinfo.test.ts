import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import t from 'tap';
import { isNarswarmError } from '../../nar/errors.ts';
import {
  fingerprint,
  makeNarInfo,
  narInfoMaxBytes,
  parseNarInfo,
  printNarInfo,
  withSignature,
  withUrl,
} from '../../nar/narinfo.ts';
import { parsePublicKey, verifyNarInfo } from '../../nar/signature.ts';

const fixtures = new URL('../fixtures/narinfo/', import.meta.url);
const cacheKey = parsePublicKey('cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=');
const hash = '1bn7c3bf5z32cdgylhbp9nzhh6ydib5ngsm6mdhsvf233g0nh1ac';

/** A narinfo with lines replaced, added, or (`undefined`) left out. */
function narInfoText(changes: Record<string, string | string[] | undefined> = {}): string {
  const lines: Record<string, string | string[] | undefined> = {
    StorePath: '/nix/store/1q8w6gl1ll0mwfkqc3c2yx005s6wwfrl-hello-2.12.1',
    URL: 'nar/x.nar.xz',
    Compression: 'xz',
    FileHash: `sha256:${hash}`,
    FileSize: '50364',
    NarHash: `sha256:${hash}`,
    NarSize: '226560',
    References: '',
    ...changes,
  };
  return Object.entries(lines)
    .flatMap(([name, value]) =>
      value === undefined ? [] : [value].flat().map((each) => `${name}: ${each}\n`),
    )
    .join('');
}

for (const name of readdirSync(fixtures)) {
  t.test(`${name} prints byte for byte as it was read, and its signature holds`, async (t) => {
    const bytes = readFileSync(new URL(name, fixtures));
    const narInfo = parseNarInfo(bytes);
    t.same(Buffer.from(printNarInfo(narInfo)), bytes);
    t.equal(verifyNarInfo(narInfo, [cacheKey]), cacheKey.name);
    const changed = parseNarInfo(bytes.toString().replace(/^NarSize: /m, 'NarSize: 1'));
    t.equal(verifyNarInfo(changed, [cacheKey]), undefined, 'a signature covers the NarSize');
    const { text, ...values } = narInfo;
    const made = makeNarInfo(values);
    t.equal(verifyNarInfo(made, [cacheKey]), cacheKey.name, 'nor does the order of lines matter');
  });
}

t.test('what Nix takes is taken', async (t) => {
  t.equal(parseNarInfo(narInfoText({ Compression: undefined })).compression, 'bzip2', 'no Compression');
  t.equal(parseNarInfo(narInfoText({ Compression: '' })).compression, 'bzip2', 'an empty Compression');
  t.equal(parseNarInfo(narInfoText({ FileHash: undefined, FileSize: undefined })).fileHash, undefined);
  t.same(parseNarInfo(narInfoText({ Sig: ['a:b', 'c:d'] })).sigs, ['a:b', 'c:d'], 'several signatures');
  t.same(
    parseNarInfo(narInfoText({ References: ['', ''] })).references,
    [],
    'a second empty References line',
  );
  t.equal(parseNarInfo(narInfoText({ Unknown: 'x' })).narSize, 226560, 'an unknown name');
  t.equal(parseNarInfo(narInfoText({ Deriver: 'unknown-deriver' })).deriver, 'unknown-deriver');
  const sri = `sha256-${Buffer.alloc(32).toString('base64')}`;
  t.equal(parseNarInfo(narInfoText({ NarHash: sri })).narHash, '0'.repeat(52), 'a hash in SRI form');
  const other = parseNarInfo(narInfoText({ StorePath: '/gnu/store/1q8w6gl1ll0mwfkqc3c2yx005s6wwfrl-hello' }));
  t.match(fingerprint(other), /^1;\/gnu\/store\//, 'another store directory');
});

t.test('what breaks a rule is refused, with the offset of its line', async (t) => {
  const bad: [string, Record<string, string | string[] | undefined>, string | undefined][] = [
    ['no StorePath', { StorePath: undefined }, undefined],
    ['no URL', { URL: undefined }, undefined],
    ['an empty URL', { URL: '' }, 'URL'],
    ['a URL with a space', { URL: 'nar/a b' }, 'URL'],
    ['no NarHash', { NarHash: undefined }, undefined],
    ['no NarSize', { NarSize: undefined }, undefined],
    ['NarSize 0', { NarSize: '0' }, undefined],
    ['a NarSize that is no number', { NarSize: '12x' }, 'NarSize'],
    ['a NarSize beyond what a number holds', { NarSize: '9999999999999999' }, 'NarSize'],
    ['a negative FileSize', { FileSize: '-1' }, 'FileSize'],
    ['a NarHash of another algorithm', { NarHash: `sha1:${'0'.repeat(32)}` }, 'NarHash'],
    ['a StorePath with a slash in its name', { StorePath: '/nix/store/../etc/passwd' }, 'StorePath'],
    ['a reference that is a path', { References: '../../etc/passwd' }, 'References'],
    ['a second CA', { CA: ['text:sha256:0', 'text:sha256:1'] }, undefined],
    ['too many signatures', { Sig: Array.from({ length: 65 }, () => 'a:b') }, undefined],
  ];
  for (const [what, changes, line] of bad) {
    const text = narInfoText(changes);
    const offset = line === undefined ? {} : { offset: text.search(new RegExp(`^${line}:`, 'm')) };
    t.throws(() => parseNarInfo(text), { code: 'narinfo-corrupt', ...offset }, what);
  }
  const reference = '1q8w6gl1ll0mwfkqc3c2yx005s6wwfrl-hello';
  const second = narInfoText({ References: [reference, reference] });
  t.throws(
    () => parseNarInfo(second),
    { code: 'narinfo-corrupt' },
    'a second References line that is not empty',
  );
  t.throws(() => parseNarInfo(narInfoText().trimEnd()), { code: 'narinfo-corrupt' }, 'no newline at the end');
  t.throws(
    () => parseNarInfo(`${narInfoText()}nonsense\n`),
    { code: 'narinfo-corrupt' },
    'a line without a colon',
  );
  t.throws(() => parseNarInfo(Buffer.from([0xff, 0x0a])), { code: 'narinfo-corrupt' }, 'not UTF-8');
  t.throws(() => parseNarInfo('x'.repeat(narInfoMaxBytes + 1)), { code: 'narinfo-corrupt' }, 'too long');
});

t.test('hostile text never throws anything but narinfo-corrupt', async () => {
  const line = fc.oneof(
    fc.constantFrom(...narInfoText().split('\n')),
    fc.string(),
    fc
      .tuple(
        fc.constantFrom('StorePath', 'URL', 'References', 'NarSize', 'FileHash', 'Sig', 'CA'),
        fc.string(),
      )
      .map((x) => x.join(': ')),
  );
  fc.assert(
    fc.property(fc.array(line, { maxLength: 20 }), (lines) => {
      const text = lines.map((each) => `${each}\n`).join('');
      try {
        return printNarInfo(parseNarInfo(text)) === text;
      } catch (error) {
        return isNarswarmError(error, 'narinfo-corrupt');
      }
    }),
    { numRuns: 2_000 },
  );
});

t.test('the URL and further signatures can be changed, and nothing else does', async (t) => {
  const narInfo = parseNarInfo(narInfoText({ Sig: 'a:b' }));
  const moved = withUrl(narInfo, 'nar/other');
  t.equal(printNarInfo(moved), narInfoText({ URL: 'nar/other', Sig: 'a:b' }));
  t.same(parseNarInfo(moved.text), moved);
  const signed = withSignature(narInfo, 'c:d');
  t.equal(printNarInfo(signed), narInfoText({ Sig: ['a:b', 'c:d'] }));
  t.equal(fingerprint(signed), fingerprint(moved));
});
