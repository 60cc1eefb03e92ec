/**
 * Real BitTorrent programs download from a real seeder, through its tracker, and from each other. Prints one table; a program that is
 * not installed is skipped by name. The exit status is 1 when a download went wrong.
 */
import { parseArgs } from 'node:util';
import { bittorrentPrograms } from '../tests/helpers/bittorrent/programs.ts';
import { SwarmLab } from '../tests/helpers/bittorrent/swarm-lab.ts';
import { enterOwnNetwork, insideOwnNetwork, ownNetworkAddress } from '../tests/helpers/own-network.ts';
import { installPrograms, interoperationPrograms } from './install-programs.ts';
import { downloadCase, exchangeCase, type Participant, type Row } from './interop/cases.ts';
import { printRows } from './interop/table.ts';
import { countOf, namedIn, readOptions } from './usage.ts';

/** A block less a byte, a piece boundary and a byte, and a file that is one NAR as it is. */
const sizes = [16 * 1024 - 1, 1024 * 1024 + 1, 300 * 1024 * 1024];

/** Both of a pair download at once. By the names of their drivers. */
const pairs = [
  ['aria2', 'transmission'],
  ['qBittorrent', 'rtorrent'],
  ['deluge', 'libtorrent'],
  // webtorrent comes from the address of the seeder, and aria2 minds least.
  ['webtorrent', 'aria2'],
] as const;
const sharedBytes = 8 * 1024 * 1024;
/** From the first byte on. It gives the file once in sixteen seconds. */
const capped = ['--initial-copies', '0', '--capped-rate', '512KiB/s'];
/** In the downloads the seeder is the only source, so it never holds back. */
const free = ['--initial-copies', '1000'];

const usage = `npm run interop -- [--install] [--only aria2,rtorrent] [--sizes 16383,1048577] [--only-pairs]

  --install     what is missing, as root on Debian
  --only        ${bittorrentPrograms.map(({ name }) => name).join(', ')}
  --sizes       bytes of the files, ${sizes.join()} by default
  --only-pairs  only the exchanges between two of them`;

const { chosen, sizesChosen, install, onlyPairs } = readOptions(usage, () => {
  const { values } = parseArgs({
    options: {
      install: { type: 'boolean', default: false },
      only: { type: 'string' },
      sizes: { type: 'string', default: sizes.join() },
      'only-pairs': { type: 'boolean', default: false },
    },
  });
  return {
    chosen: namedIn(
      bittorrentPrograms.map(({ name }) => name),
      values.only,
    ),
    sizesChosen: values.sizes.split(',').map((size) => countOf('sizes', size)),
    install: values.install,
    onlyPairs: values['only-pairs'],
  };
});
if (install && !insideOwnNetwork())
  await installPrograms((text) => console.log(text), interoperationPrograms);
const ownAddress = enterOwnNetwork(import.meta.filename);
const host = ownAddress ?? '127.0.0.1';

const rows: Row[] = [];
const participants: Participant[] = [];
for (const [index, program] of bittorrentPrograms.entries()) {
  if (!chosen.includes(program.name)) continue;
  const missing = program.missing(host);
  // Each at an address of its own, because most take but one connection from an address.
  const address = ownAddress === undefined ? `127.0.0.${index + 2}` : ownNetworkAddress(index + 2);
  if (missing === undefined) participants.push({ program, address });
  else
    rows.push({
      program: program.name,
      version: '',
      how: '',
      size: '',
      ok: true,
      result: `skipped: ${missing}`,
    });
}

if (!onlyPairs) await downloads();
await exchanges();
console.log(printRows(rows));
process.exitCode = rows.every(({ ok }) => ok) ? 0 : 1;

async function downloads(): Promise<void> {
  const lab = await SwarmLab.open({ host, sizes: sizesChosen, flags: free });
  try {
    for (const participant of participants) {
      for (const how of ['.torrent', 'magnet'] as const) {
        for (const file of lab.files) say(await downloadCase(lab, participant, how, file));
      }
    }
  } finally {
    await lab.close();
  }
}

async function exchanges(): Promise<void> {
  const here = pairs.flatMap((names) => {
    const [a, b] = names.map((name) => participants.find(({ program }) => program.name === name));
    return a === undefined || b === undefined ? [] : [[a, b] as const];
  });
  const lab = await SwarmLab.open({ host, sizes: here.map(() => sharedBytes), flags: capped });
  try {
    for (const [index, pair] of here.entries()) {
      const file = lab.files[index];
      if (file !== undefined) for (const row of await exchangeCase(lab, pair, file)) say(row);
    }
  } finally {
    await lab.close();
  }
}

/** The table comes at the end; this shows how far it is. */
function say(row: Row): void {
  rows.push(row);
  const { program, how, size, seconds, result } = row;
  process.stderr.write(`${program}, ${how}, ${size}: ${seconds?.toFixed(1) ?? '–'} s, ${result}\n`);
}
