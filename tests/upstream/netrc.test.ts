import fc from 'fast-check';
import t from 'tap';
import { basicAuthorization, netrcEntryFor, parseNetrc } from '../../upstream/netrc.ts';

t.test('machines, in any layout, and the default', async (t) => {
  const entries = parseNetrc(
    [
      'machine cache.example login me password secret',
      '',
      'machine\tCACHE2.example',
      '  login you',
      '  account ignored  password two words',
      'default login any password thing',
    ]
      .join('\n')
      .replace('two words', 'twowords'),
    'f',
  );
  t.same(entries, [
    { machine: 'cache.example', login: 'me', password: 'secret' },
    { machine: 'cache2.example', login: 'you', password: 'twowords' },
    { machine: undefined, login: 'any', password: 'thing' },
  ]);
  t.equal(netrcEntryFor(entries, 'Cache2.Example')?.login, 'you');
  t.equal(netrcEntryFor(entries, 'elsewhere.example')?.login, 'any');
  t.equal(netrcEntryFor(entries.slice(0, 2), 'elsewhere.example'), undefined);
  t.equal(basicAuthorization({ machine: 'x', login: 'me', password: 'secret' }), 'Basic bWU6c2VjcmV0');
});

t.test('quoted words, comments and macros, as curl takes them', async (t) => {
  const text = String.raw`
# a comment with machine nowhere
machine "cache.example" # so is this
login "a \"b\" \\ c" password "#no comment\n\t\x"
macdef init
machine in.a.macro login x
cd /

machine other.example password half#a-word
`;
  t.same(parseNetrc(text, 'f'), [
    { machine: 'cache.example', login: 'a "b" \\ c', password: '#no comment\n\tx' },
    { machine: 'other.example', login: '', password: 'half#a-word' },
  ]);
  t.same(parseNetrc('machine a login b password c\r\n', 'f'), [{ machine: 'a', login: 'b', password: 'c' }]);
});

t.test('the first entry of a host counts, and a default hides what comes after it', async (t) => {
  const entries = parseNetrc('machine a login 1\nmachine a login 2\ndefault login 3\nmachine b login 4', 'f');
  t.equal(netrcEntryFor(entries, 'a')?.login, '1');
  t.equal(netrcEntryFor(entries, 'b')?.login, '3');
});

t.test('what is wrong is said with its line, and nothing of what is in it', async (t) => {
  const cases: [string, RegExp][] = [
    ['machine a login b\npassword "s3cret', /^f, line 2: a quotation mark/],
    ['machine a\nlogin b s3cret', /^f, line 2: one of machine/],
    ['\nlogin s3cret', /^f, line 2: a login before the first machine/],
    ['machine a\nlogin', /^f, line 2: the file ends/],
    ['machine', /^f, line 1: the file ends/],
  ];
  for (const [text, message] of cases) {
    t.throws(() => parseNetrc(text, 'f'), { code: 'config-invalid', message }, text);
    try {
      parseNetrc(text, 'f');
    } catch (error) {
      t.notMatch(String(error), 's3cret');
    }
  }
});

t.test('any file is read or refused in words of ours', async (t) => {
  const word = fc.constantFrom(
    'machine',
    'default',
    'login',
    'password',
    'macdef',
    '"',
    '\\',
    '#',
    '\n',
    ' ',
    'x',
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(word, fc.string())), (words) => {
      try {
        parseNetrc(words.join(' '), 'f');
      } catch (error) {
        if (!/^f, line [0-9]+: /.test((error as Error).message)) throw error;
      }
    }),
  );
  t.pass();
});
