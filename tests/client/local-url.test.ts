import fc from 'fast-check';
import t from 'tap';
import { isOwnNarKey, ownUrlOf, urlKeyOf, urlKeyOfNarUrl } from '../../client/local-url.ts';
import { madeNar } from './made-nar.ts';

t.test('a narinfo URL and the request that Nix makes of it have the same key', async (t) => {
  const urls = [
    'nar/abc.nar.xz',
    'nar/abc.nar.xz?hash=1&x=%2F',
    './nar/../nar/abc.nar',
    '../../other/nar/abc.nar',
    'nar/twice//slashed.nar',
    'nar/with space.nar',
    'nar/%41.nar#fragment',
  ];
  for (const url of urls) {
    const key = urlKeyOfNarUrl(url);
    // curl resolves dot segments and drops the fragment before it sends.
    const { pathname, search } = new URL(`http://127.0.0.1/${url}`);
    t.ok(key, url);
    t.equal(key, urlKeyOf(pathname + search), url);
  }
});

t.test('URLs that mean something else here have no key', async (t) => {
  const { storeHash, narInfo } = madeNar({ name: 'x', sizeBytes: 1 });
  const urls = [
    'http://elsewhere/nar',
    'HTTPS://x/y',
    '_narswarm/status',
    'a/../_narswarm/status',
    'nix-cache-info',
    // To Nix since it resolves them: status, another host, another scheme.
    '/_narswarm/status',
    '//elsewhere/nar',
    'x:y/abc.nar',
    'http:elsewhere/nar',
  ];
  for (const url of [...urls, `${storeHash}.narinfo`, '', '.', 'file:///etc/passwd']) {
    t.equal(urlKeyOfNarUrl(url), undefined, url);
  }
  t.ok(isOwnNarKey(ownUrlOf(narInfo)));
  t.match(ownUrlOf(narInfo), /^_narswarm\/nar\/[a-z0-9]{32}\/[a-z0-9]{52}\.nar\.xz$/);
});

t.test('a request target that is no path has no key', async (t) => {
  t.equal(urlKeyOf('*'), undefined);
  t.equal(urlKeyOf('http://elsewhere/x'), undefined);
  t.equal(urlKeyOf('//host/x'), '/host/x');
});

t.test('a plain target means what the URL parser says, found out for less', async (t) => {
  const part = fc.constantFrom(
    '/',
    '.',
    '..',
    '%2e',
    'nar',
    'a-b',
    '+',
    '=',
    '?',
    '#',
    '\\',
    ' ',
    'é',
    ':',
    '@',
    ';',
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(part, fc.string({ maxLength: 3 })), { maxLength: 8 }), (parts) => {
      const target = `/${parts.join('')}`;
      const parsed = URL.parse(`http://narswarm.invalid${target}`);
      return urlKeyOf(target) === (parsed === null ? undefined : parsed.pathname.slice(1) + parsed.search);
    }),
  );
  t.equal(urlKeyOf('/nar/0abc.nar.xz'), 'nar/0abc.nar.xz');
});
