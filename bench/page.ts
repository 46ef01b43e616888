import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { barChart } from './chart.ts';
import { type Goal, type Result, resultFile, resultSchema, resultsDirectory, type Table } from './result.ts';

/*
 * docs/performance.md, made of the results in bench/results/ alone: what was not run is in it, too, and says so.
 */

const docs = join(import.meta.dirname, '../docs');
const images = 'images';
const imagePrefix = 'performance-';

interface Section {
  readonly bench: string;
  readonly part: string;
  readonly title: string;
  /** What is compared with what, and what is not the same about it. */
  readonly about: string;
}

/** Everything that `npm run bench` compares, in the order of the page. */
export const sections: readonly Section[] = [
  {
    ...{ bench: 'start', part: 'start', title: 'Start' },
    about: 'What a user waits for before anything happens. Nothing on Node.js can start faster than Node.js.',
  },
  {
    ...{ bench: 'mirror', part: 'real', title: 'Mirror: packages of Debian' },
    about:
      'An archive of real packages on the same machine, served by nginx on the loopback interface, is brought into an empty directory, and then once more when nothing has changed. Each tool in turn, the least of several rounds.',
  },
  {
    ...{ bench: 'mirror', part: 'small', title: 'Mirror: many small packages' },
    about:
      'The same with made-up packages of 20 to 130 kB, where what a tool does for each file counts most.',
  },
  {
    ...{ bench: 'mirror', part: 'verify', title: 'Verification' },
    about:
      'Every file of a mirror compared with the digest that its signed index states. sha256sum is given a list of digests, and checks neither signatures nor indices.',
  },
  {
    ...{ bench: 'mirror', part: 'memory', title: 'Memory: the indices of a whole suite' },
    about: 'Packages, sources, translations, contents and AppStream data of one suite for one architecture.',
  },
  {
    ...{ bench: 'mirror', part: 'million', title: 'Memory: up to a million files' },
    about: 'Whether memory grows with the number of files. It is run only where it is asked for by name.',
  },
  {
    ...{ bench: 'build', part: 'hand', title: 'Build: by hand' },
    about:
      'The same packages out of the same mirror by mmdebstrap and mksquashfs, as one would type them, with the same compression. relive makes an initramfs with its checks and the layers besides, reads every package once more, proves that the packed layers show the tree, makes hash trees, and signs.',
  },
  {
    ...{ bench: 'build', part: 'live-build', title: 'Build: live-build' },
    about:
      'The same kind of system by live-build, which takes its packages from its own cache, and makes an ISO. relive makes a signed image in a store; its ISO is a command of its own (relive image export).',
  },
  {
    ...{ bench: 'update', part: 'machine', title: 'Update: openssl, a kernel, a file' },
    about:
      'Real upgrades of the profile demo, with openssl, from the packages of Debian’s main suite to those of its security suite, one source at a time, out of the local mirror: from the command to the sealed and published image, without its test in QEMU (--no-test). Beside them a full build out of the same mirror with nothing cached. A ratio is of two figures of one round, the least of the rounds. A delta is compared with those of its files which belong to the upgraded packages, packed by themselves: what is more in it is dpkg’s database, the cache of the linker, and SquashFS’s own tables. Newer versions go upon the cached system; what then takes its time is what every image of a machine needs: an initramfs, made by Debian’s own mkinitramfs, and the proof of the whole tree. So a system as small as this one cannot be updated in a fifth of its full build; the larger one below shows how that share falls. Another kernel is another package, not another version: the packages are installed anew, upon the cached bootstrap.',
  },
  {
    ...{ bench: 'update', part: 'stack', title: 'Update: reading the deepest stack' },
    about:
      'All files of an image with four deltas, the most there may be, beside an image of the same tree that was flattened. The layers are mounted anew each time and decompressed while they are read; their files are in memory. The least of seven rounds, in turn.',
  },
  {
    ...{ bench: 'update', part: 'browser', title: 'Update: openssl and a browser in a larger system' },
    about:
      'openssl and firefox-esr from Debian’s main suite to the security suite, one after the other, in a container with what a kiosk needs to show its pages.',
  },
  {
    ...{ bench: 'update', part: 'live-build', title: 'Update: live-build' },
    about:
      'live-build knows no updates: for one package it builds everything anew, from the packages in its cache.',
  },
  {
    ...{ bench: 'live', part: 'interruptions', title: 'Live: interruptions' },
    about:
      'A machine in emulation, without KVM, whose web server a client on the host asks ten times a second, is brought to another image: in memory (apply), once to one with a newer nginx, which is that server, and a file of 20 MB that no compression makes smaller, then to one with a newer zlib1g, which other services use, too; by systemd’s soft-reboot (switch), by kexec and through the firmware. What counts is the longest time between two answers; of the restarts, which emulation makes now a third slower, now not, the middle one of several rounds.',
  },
  {
    ...{ bench: 'boot', part: 'live-build', title: 'Boot: live-build' },
    about:
      'From the start of QEMU, in emulation, without KVM, until the system reports on the serial line that systemd has no job left: an ISO of relive’s profile demo, and a hybrid ISO by live-build with the same packages, units, kernel parameters and compression, with relive’s report of health put into it. Both are attached as a disk, start by BIOS, and their menus do not wait. Rounds in turn, of each figure the middle one. What is not the same: relive’s GRUB checks the signatures of the menu entry, kernel and initrd, the initramfs the manifest, and dm-verity every block that is read; of live-build’s image, started by isolinux, nothing is checked. More than half of what GRUB takes longer than isolinux goes into these checks: without them (boot.verify: none), tried by hand, it took 1.5 s less.',
  },
];

/** What each tool does in these comparisons, and what it leaves out. */
const tools: readonly (readonly [name: string, does: string, not: string])[] = [
  [
    'relive',
    'signatures of Release, digests of indices and of every package; publishes a suite by one rename; builds, proves, seals and signs images; updates as deltas',
    'years of use by others, as they have',
  ],
  [
    'curl',
    'fetches files from a list that is given to it, in parallel',
    'any check, any knowledge of indices',
  ],
  [
    'apt-mirror',
    'fetches indices and the packages they name, through wget',
    'a check of signatures or digests; a switch of a whole suite at once',
  ],
  [
    'debmirror',
    'checks the signature of Release, the digests of indices and the sizes of packages',
    'the digests of packages as it is called here; more than one connection; a switch of a whole suite at once',
  ],
  [
    'aptly',
    'checks signatures and digests; snapshots; a database of packages',
    'upstream’s signed files as they are',
  ],
  [
    'reprepro',
    'checks the signature and digests; a database of packages; several upstreams in one repository',
    'upstream’s signed files as they are: it signs anew',
  ],
  ['sha256sum', 'compares files with a list of digests', 'where the list comes from'],
  ['openssl', 'computes SHA-256 of memory: what the processor can do', 'reading files'],
  [
    'mmdebstrap, mksquashfs',
    'install packages from signed repositories into a directory, and pack it',
    'an initramfs for a live system, layers, proof, seal; anything but all anew',
  ],
  [
    'live-build',
    'builds a live system and its ISO with debootstrap, chroot and hooks',
    'updates, layers, proof and signature of what was packed',
  ],
];

/** The results that are there, by the name of their file. @throws ZodError for one that is none */
export function readResults(): ReadonlyMap<string, Result> {
  const names = existsSync(resultsDirectory) ? readdirSync(resultsDirectory).toSorted() : [];
  return new Map(
    names.map((name) => [
      name,
      resultSchema.parse(JSON.parse(readFileSync(join(resultsDirectory, name), 'utf8'))),
    ]),
  );
}

function formatFigure(value: number | null): string {
  if (value === null) return '-';
  if (Number.isInteger(value)) return String(value);
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(value < 10 ? 2 : 1);
}

function withUnit(name: string, unit: string): string {
  return unit === '' ? name : `${name}, ${unit}`;
}

/** A table of Markdown, its columns aligned. */
function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const width = head.map((cell, index) =>
    Math.max(cell.length, ...rows.map((row) => row[index]?.length ?? 0)),
  );
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, index) => (index === 0 ? cell.padEnd(width[index] ?? 0) : cell.padStart(width[index] ?? 0))).join(' | ')} |`;
  const rule = `| ${width.map((each, index) => (index === 0 ? '-'.repeat(each) : `${'-'.repeat(Math.max(each - 1, 2))}:`)).join(' | ')} |`;
  return [line(head), rule, ...rows.map(line)].join('\n');
}

function tableText({ title, columns, rows }: Table): string {
  return markdownTable(
    [title, ...columns.map(({ name, unit }) => withUnit(name, unit))],
    rows.map(({ name, values }) => [name, ...values.map(formatFigure)]),
  );
}

function goalText({ what, measured, order, wanted, unit, met }: Goal): string {
  const figure = (value: number): string =>
    unit === '' ? formatFigure(value) : `${formatFigure(value)} ${unit}`;
  return `- ${met ? 'met' : '**missed**'}: ${what}: ${figure(measured)}, ${order} ${figure(wanted)} is wanted`;
}

function machineText({ machine, load, tools: versions, date, relive }: Result): string {
  const where = machine.virtualMachine ? ', in a virtual machine' : '';
  const names = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
  return `${date}, relive ${relive}; ${machine.cores} cores (${machine.processor})${where}, ${(machine.memory / 2 ** 30).toFixed(0)} GiB of memory, Debian ${machine.debian}, Linux ${machine.kernel}; load ${load.before} before, ${load.after} at the end. ${names.join(', ')}.`;
}

function chartName(section: Section, index: number): string {
  return `${imagePrefix}${section.bench}-${section.part}${index === 0 ? '' : `-${index + 1}`}.svg`;
}

/** The files below docs/ that results make: the page and its charts, by their paths there. */
export function makePage(results: ReadonlyMap<string, Result>): ReadonlyMap<string, string> {
  const files = new Map<string, string>();
  const texts = sections.map((section) => {
    const { bench, part, title, about } = section;
    const result = results.get(resultFile(section));
    const command = `    RELIVE_BENCH_PARTS=${part} npm run bench -- ${bench}`;
    const head = `## ${title}\n\n${about}\n\n${command}\n`;
    if (result === undefined) return `${head}\nNot run on this machine yet.\n`;
    const tables = result.tables.map((table, index) => {
      const column = table.columns.findIndex(({ name }) => name === table.plot);
      if (column < 0) return tableText(table);
      const name = `${images}/${chartName(section, index)}`;
      const { name: what = '', unit = '' } = table.columns[column] ?? {};
      const bars = table.rows.map((row) => ({ name: row.name, value: row.values[column] ?? null }));
      files.set(name, barChart(`${table.title}: ${withUnit(what, unit)}`, bars));
      return `${tableText(table)}\n\n![${table.title}: ${withUnit(what, unit)}](${name})`;
    });
    const goals = result.goals.length === 0 ? [] : [result.goals.map(goalText).join('\n')];
    const notes = result.notes.length === 0 ? [] : [result.notes.map((note) => `- ${note}`).join('\n')];
    return `${[head.trimEnd(), ...tables, ...goals, ...notes, machineText(result)].join('\n\n')}\n`;
  });
  const introduction = `# Performance

Made by \`npm run bench\` from what it measured (bench/results/); do not edit it. A comparison runs all its tools side by side in one
run on one machine: ratios mean something elsewhere, seconds only there. Times are from the command to its end; "processor" is the time of
all cores together, in the kernel too, which other work on the machine changes less. Where others used the machine at the same time the load
says so: a load above the number of cores means that times were longer than they would have been.

`;
  const toolLines = tools.map(([name, does, not]) => `- **${name}** ${does}. Not: ${not}.`);
  const toolText = `## What the tools do, and what they do not\n\n${toolLines.join('\n')}\n`;
  files.set('performance.md', `${introduction}${texts.join('\n')}\n${toolText}`);
  return files;
}

/** Writes the page and its charts, and removes charts of results that are no more. */
export function writePage(): void {
  for (const name of readdirSync(join(docs, images)))
    if (name.startsWith(imagePrefix)) rmSync(join(docs, images, name));
  for (const [path, text] of makePage(readResults())) writeFileSync(join(docs, path), text);
}

/** What of the page is in docs/, by its paths there. */
export function writtenPage(): ReadonlyMap<string, string> {
  const names = [
    'performance.md',
    ...readdirSync(join(docs, images))
      .filter((name) => name.startsWith(imagePrefix))
      .map((name) => `${images}/${name}`),
  ];
  return new Map(names.map((name) => [name, readFileSync(join(docs, name), 'utf8')]));
}
