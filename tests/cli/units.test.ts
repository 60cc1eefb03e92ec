import fc from 'fast-check';
import t from 'tap';
import {
  parseCount,
  parseDuration,
  parseHost,
  parseHostPort,
  parseRate,
  parseSize,
  printDuration,
  printHostPort,
  printRate,
  printSize,
} from '../../cli/units.ts';

const wrong = { code: 'config-invalid' };

t.test('sizes are binary, and units that people disagree about are refused', async (t) => {
  t.equal(parseSize('4096'), 4096);
  t.equal(parseSize('10GiB'), 10 * 2 ** 30);
  t.equal(parseSize('1.5 MiB'), 1_572_864);
  t.equal(parseSize('2kib'), 2048);
  t.equal(parseSize('1TiB'), 2 ** 40);
  for (const text of ['', '-1', '10GB', '10G', 'GiB', '1e3', '1,5MiB', '99999PiB', 'ten']) {
    t.throws(() => parseSize(text), wrong, text);
  }
});

t.test('a rate is a size per second', async (t) => {
  t.equal(parseRate('10MiB/s'), 10 * 2 ** 20);
  t.equal(parseRate('500 KiB / s'), 512_000);
  for (const text of ['10MiB', '10MiB/min', '/s']) t.throws(() => parseRate(text), wrong, text);
});

t.test('a time has a unit', async (t) => {
  t.equal(parseDuration('500ms'), 500);
  t.equal(parseDuration('30s'), 30_000);
  t.equal(parseDuration('1.5h'), 5_400_000);
  t.equal(parseDuration('10 min'), 600_000);
  t.equal(parseDuration('7d'), 604_800_000);
  for (const text of ['30', '', '5m', '1w']) t.throws(() => parseDuration(text), wrong, text);
});

t.test('an address has a host and a port, and IPv6 stands in brackets', async (t) => {
  t.same(parseHostPort('127.0.0.1:0'), { host: '127.0.0.1', port: 0 });
  t.same(parseHostPort('[::1]:8420'), { host: '::1', port: 8420 });
  t.same(parseHostPort('seeder.example:65535'), { host: 'seeder.example', port: 65_535 });
  for (const text of [
    '::1:80',
    '8420',
    ':8420',
    'a:65536',
    '[zz]:1',
    '127.0.0:1',
    'a b:1',
    'http://a:1',
    'host:',
    '-a:1',
  ]) {
    t.throws(() => parseHostPort(text), wrong, text);
  }
  t.equal(parseHost('[::1]'), '::1');
  t.equal(parseHost('seeder.example'), 'seeder.example');
  t.throws(() => parseHost('seeder.example:80'), wrong);
});

t.test('an address is printed as it is read', async () => {
  const host = fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain());
  fc.assert(
    fc.property(host, fc.integer({ min: 0, max: 65_535 }), (host, port) => {
      const read = parseHostPort(printHostPort({ host, port }));
      return read.host === host && read.port === port;
    }),
  );
});

t.test('counts keep their bounds', async (t) => {
  t.equal(parseCount('100', 1, 1000), 100);
  for (const text of ['0', '1001', '1.5', '-3', '', ' ', '0x10'])
    t.throws(() => parseCount(text, 1, 1000), wrong, text);
});

t.test('what is printed is short and has a unit', async (t) => {
  t.equal(printSize(0), '0 B');
  t.equal(printSize(1023), '1023 B');
  t.equal(printSize(1_572_864), '1.5 MiB');
  t.equal(printSize(1023 * 1024), '1023 KiB');
  t.equal(printRate(10 * 2 ** 20), '10 MiB/s');
  t.equal(printDuration(250), '250 ms');
  t.equal(printDuration(90_000), '1.5 min');
  t.equal(printDuration(86_400_000), '1 d');
});

t.test('no text makes a parser throw anything but config-invalid', async () => {
  const parsers = [parseSize, parseRate, parseDuration, parseHostPort, parseHost];
  fc.assert(
    fc.property(fc.constantFrom(...parsers), fc.string(), (parse, text) => {
      try {
        parse(text);
        return true;
      } catch (error) {
        return error instanceof Error && 'code' in error && error.code === 'config-invalid';
      }
    }),
  );
});
