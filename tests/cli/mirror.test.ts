import t from 'tap';
import type { CommandIo } from '../../cli/command.ts';
import { command } from '../../cli/mirror.ts';
import { parseScheduledRate } from '../../cli/scheduled-rate.ts';

const io: CommandIo = {
  out() {},
  note() {},
  noteIsTerminal: false,
  columns: undefined,
  env: {},
  signal: AbortSignal.abort(),
  serving() {},
};
const key = 'catalog-1:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=';
const catalog = ['--catalog', 'http://a.example', '--catalog-key', key];

t.test('a wrong command line is told what to write instead', async (t) => {
  const cases: [args: string[], message: RegExp][] = [
    [catalog, /--quota: is missing; write SIZE|--quota is missing; write SIZE/],
    [['--quota', '1GiB', '--catalog-key', key], /--catalog is missing/],
    [['--quota', '1GiB', '--catalog', 'http://a.example'], /--catalog-key KEY as well/],
    [['--quota', '1GiB', ...catalog, '--select', 'most'], /not a selection; write channel:NAME/],
    [['--quota', '1GiB', ...catalog, '--select', 'all=70%', '--select', 'rare=40%'], /110% together/],
    [['--quota', '1GiB', ...catalog, '--schedule', '0 8 * * *'], /is not CRON=RATE/],
    [['--quota', '1GiB', ...catalog, '--store-dir', 'nix/store'], /write \/nix\/store/],
    [['--quota', 'much', ...catalog], /is not a size/],
    [['--quota', '1GiB', ...catalog, '--catalog-key', key], /two catalogs have keys of one name, catalog-1/],
  ];
  for (const [args, message] of cases) {
    await t.rejects(command.main(args, io), { code: 'config-invalid', message }, args.join(' '));
  }
});

t.test('a schedule may stop a mirror, and a seeder not', async (t) => {
  const cron = '0 8 * * 1-5';
  t.same(parseScheduledRate(`${cron}=0`, 0), { cron, bytesPerSecond: 0 });
  t.same(parseScheduledRate(`${cron}=0B/s`, 0), { cron, bytesPerSecond: 0 });
  t.same(parseScheduledRate(`${cron}=unlimited`, 0), { cron, bytesPerSecond: undefined });
  t.same(parseScheduledRate(`${cron}=1MiB/s`, 1024), { cron, bytesPerSecond: 2 ** 20 });
  t.throws(() => parseScheduledRate(`${cron}=0`, 1024), { code: 'config-invalid' });
});
