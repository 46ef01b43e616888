/**
 * `npm run chaos -- --site DIR --hours N [--seed N] [--only WORD]`: faults at random, for as long as wanted, on copies of a site that has an
 * image: work killed, disks that are full, bits that flip; and on a mirror and a running
 * system of its own. `--only` takes the faults that have the word in their names. Each fault has an outcome that is allowed; any other stops the
 * campaign with status 1, and leaves everything as it was then. Root is wanted for the disks that are full.
 */
import { execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { numbersOf } from './chaos-random.js';
import { releaseOf, startUpstream } from './chaos-upstream.js';

const tell = (line) => process.stderr.write(`${line}\n`);
const { values } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    site: { type: 'string' },
    hours: { type: 'string', default: '1' },
    seed: { type: 'string' },
  },
});
if (values.site === undefined || !(Number(values.hours) > 0)) {
  tell('usage: npm run chaos -- --site DIR --hours N [--seed N] [--only WORD]; the site must have an image');
  process.exit(2);
}
const from = resolve(values.site);
const until = Date.now() + Number(values.hours) * 3_600_000;
const seed = Number(values.seed ?? Date.now() % 2 ** 31);
const cli = join(import.meta.dirname, '../dist/cli.cjs');
const work = mkdtempSync(join(tmpdir(), 'relive-chaos-'));

const random = numbersOf(seed);
const below = (limit) => Math.floor(random() * limit);
const oneOf = (list) => list[below(list.length)];

/** Runs a program of ours; with `killAfter` it gets SIGKILL after so many milliseconds, together with all that it started. */
async function node(args, cwd, killAfter) {
  return await new Promise((done) => {
    const child = spawn(process.execPath, args, {
      cwd,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        output += chunk;
      });
    }
    const timer =
      killAfter === undefined ? undefined : setTimeout(() => process.kill(-child.pid, 'SIGKILL'), killAfter);
    child.once('close', (status) => {
      clearTimeout(timer);
      done({ status, output });
    });
  });
}

const relive = async (site, args, killAfter) =>
  await node([cli, ...args, '--site', site, '--json'], site, killAfter);

class Wrong extends Error {}
async function must(site, args, ...allowed) {
  const { status, output } = await relive(site, args);
  if (!allowed.includes(status)) {
    throw new Wrong(
      `relive ${args.join(' ')}: status ${status}, allowed: ${allowed.join(', ')}\n${output.slice(-3000)}`,
    );
  }
  return output;
}

const filesBelow = (directory) =>
  readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => statSync(path).size > 0);

/** Changes one bit of a file, and gives what changes it back. */
function flip(path) {
  const offset = below(statSync(path).size);
  const bit = 1 << below(8);
  const change = () => {
    const file = openSync(path, 'r+');
    const byte = Buffer.alloc(1);
    readSync(file, byte, 0, 1, offset);
    byte[0] ^= bit;
    writeSync(file, byte, 0, 1, offset);
    closeSync(file);
  };
  change();
  return { what: `${path} bit ${bit} of byte ${offset}`, back: change };
}

/** A site with the keys of the one that is tried, and a store of its own: empty, or with its images. */
function copyOf(name, withStore) {
  const directory = join(work, name);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory);
  for (const part of [
    'relive.yaml',
    'profiles',
    'overlays',
    'keys',
    'locks',
    ...(withStore ? ['store'] : []),
  ]) {
    if (existsSync(join(from, part)))
      cpSync(join(from, part), join(directory, part), { recursive: true, verbatimSymlinks: true });
  }
  return directory;
}

const origin = copyOf('origin', true);
const listed = JSON.parse((await must(origin, ['image', 'list'], 0)).trim().split('\n').at(-1));
const image = listed.images[0]?.name;
if (image === undefined) throw new Error('the site has no image');
const bundle = join(work, 'a.bundle');
const medium = join(work, 'a.img');
await must(origin, ['image', 'verify'], 0);
await must(origin, ['image', 'export', image, '--bundle', bundle], 0);

/** How long work takes that nothing disturbs: it is killed at some point of that. */
const lengths = new Map();
async function undisturbed(name, does) {
  const begun = Date.now();
  await does();
  lengths.set(name, Date.now() - begun);
}
await undisturbed(
  'medium',
  async () => await must(origin, ['medium', 'create', medium, '--size', '2G', '--image', image, '--yes'], 0),
);
await undisturbed('import', async () => await must(copyOf('far', false), ['image', 'import', bundle], 0));
await undisturbed('iso', async () => await must(origin, ['image', 'export', image, '--iso'], 0));

/** A site with nothing but a mirror, of an upstream that changes. */
const upstream = await startUpstream(work, random);
const mirrored = join(work, 'mirrored');
const repository = join(mirrored, 'mirror/test');
mkdirSync(mirrored);
const described = { url: [upstream.url], suites: ['stable'], components: ['main'], architectures: ['amd64'] };
writeFileSync(
  join(mirrored, 'relive.yaml'),
  JSON.stringify({
    version: 1,
    repositories: { test: { ...described, signedBy: upstream.keyring, select: 'all' } },
  }),
);
/** The mirror is what upstream is, whole. */
async function mirrorIsWell() {
  if (releaseOf(repository)?.equals(upstream.release()) !== true)
    throw new Wrong('the mirror does not have what upstream has');
  await must(mirrored, ['mirror', 'verify'], 0);
}
await undisturbed('mirror', async () => await must(mirrored, ['mirror', 'sync'], 0));

/** A step of a live apply. */
const modules = join(import.meta.dirname, '../build/modules');
const system = join(work, 'system');
async function apply(step, killAfter) {
  const program = join(import.meta.dirname, 'chaos-apply.js');
  const { status, output } = await node(
    [program, modules, system, step, String(below(2 ** 31))],
    work,
    killAfter,
  );
  if (killAfter === undefined && status !== 0)
    throw new Wrong(`${step} of the system: status ${status}\n${output}`);
  return output;
}
async function systemIs(which) {
  const seen = JSON.parse(await apply('look'));
  if (!seen[which]) throw new Wrong(`the system is not the ${which} tree: ${JSON.stringify(seen)}`);
  return seen;
}
/** A system in memory, for as long as `does` takes; where that fails it stays as it is. */
async function withSystem(does) {
  mkdirSync(system, { recursive: true });
  execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', system]);
  await apply('prepare');
  await does();
  execFileSync('umount', ['--recursive', system]);
}
await withSystem(async () => {
  await undisturbed('apply', async () => await apply('apply'));
  await undisturbed('undo', async () => await apply('undo'));
});
const moment = (name) => below(Math.ceil((lengths.get(name) ?? 1000) * 1.1));

let far = copyOf('far', false);
const faults = {
  /** A bit of any file of the store flips: verification names it, and it is well again when the bit is back. */
  'bit of the store': async () => {
    const { what, back } = flip(
      oneOf(
        filesBelow(join(origin, 'store')).filter(
          (path) => /\/(?:images|live)\//.test(path) && !path.includes('/.'),
        ),
      ),
    );
    const output = await must(origin, ['image', 'verify'], 1);
    if (!output.includes('"finding"')) throw new Wrong(`nothing was found: ${what}`);
    back();
    await must(origin, ['image', 'verify'], 0);
  },
  /** A bit of a bundle flips: it is refused, and nothing of it is in the store; or it was in nothing that counts. */
  'bit of a bundle': async () => {
    far = copyOf('far', false);
    const { back } = flip(bundle);
    await must(far, ['image', 'import', bundle], 2, 3);
    back();
    await must(far, ['image', 'import', bundle], 0);
    await must(far, ['image', 'verify', image], 0);
  },
  /** An import is killed at any moment: what is there is whole, and the next one finishes. */
  'import killed': async () => {
    far = copyOf('far', false);
    await relive(far, ['image', 'import', bundle], moment('import'));
    if (existsSync(join(far, 'store/images'))) await must(far, ['image', 'verify'], 0);
    await must(far, ['image', 'import', bundle], 0);
    await must(far, ['image', 'verify', image], 0);
  },
  /** The disk of the store is full: the import says so, nothing is visible, and with room it goes on. */
  'disk of the store full': async () => {
    far = copyOf('far', false);
    const store = join(far, 'store');
    mkdirSync(store);
    const megabytes = 1 + below(Math.ceil(statSync(bundle).size / 2 ** 20));
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', store]);
    try {
      const output = await must(far, ['image', 'import', bundle], 3);
      if (!output.includes('"disk-full"'))
        throw new Wrong(`another error than disk-full with ${megabytes} MB:\n${output.slice(-2000)}`);
      const seen = JSON.parse((await must(far, ['image', 'list'], 0)).trim().split('\n').at(-1)).images;
      if (seen.length > 0) throw new Wrong('half an image is visible');
      execFileSync('mount', ['-o', 'remount,size=2g', store]);
      await must(far, ['image', 'import', bundle], 0);
      await must(far, ['image', 'verify', image], 0);
    } finally {
      execFileSync('umount', [store]);
    }
  },
  /** The making of a medium is killed: the next one makes it. */
  'medium create killed': async () => {
    const target = join(work, 'b.img');
    await relive(
      origin,
      ['medium', 'create', target, '--size', '2G', '--image', image, '--yes'],
      moment('medium'),
    );
    await must(origin, ['medium', 'create', target, '--size', '2G', '--image', image, '--yes'], 0);
    await must(origin, ['medium', 'verify', target], 0);
    rmSync(target);
  },
  /** A sync that mends a damaged medium is killed: what is on it still is, and the next one finishes. */
  'medium sync killed': async () => {
    await relive(origin, ['medium', 'sync', medium, '--check'], moment('medium'));
    await must(origin, ['medium', 'verify', medium], 0);
    await must(origin, ['medium', 'sync', medium], 0);
    await must(origin, ['medium', 'verify', medium], 0);
  },
  /** An ISO that is being written is killed: none is there, or a whole one. */
  'export killed': async () => {
    await relive(origin, ['image', 'export', image, '--iso'], moment('iso'));
    await must(origin, ['image', 'verify'], 0);
    await must(origin, ['image', 'export', image, '--iso'], 0);
  },
};

/** Faults of a mirror. */
Object.assign(faults, {
  /** A sync is killed at any moment, of a mirror that is there or from nothing: clients see what was, or what is, whole. */
  'mirror sync killed': async () => {
    if (below(2) === 0) rmSync(join(mirrored, 'mirror'), { recursive: true });
    const before = releaseOf(repository);
    upstream.advance();
    await relive(mirrored, ['mirror', 'sync'], moment('mirror'));
    const seen = releaseOf(repository);
    if (seen !== undefined) {
      if (before?.equals(seen) !== true && !seen.equals(upstream.release()))
        throw new Wrong('the mirror is neither what it was nor what upstream is');
      // Packages that came and whose index is not published yet are in no index.
      const output = await must(mirrored, ['mirror', 'verify'], 0, 1);
      const kinds = output.match(/(?<="event":"finding","kind":")[a-z-]+/g) ?? [];
      if (kinds.some((kind) => kind !== 'unreferenced'))
        throw new Wrong(`a killed sync did harm:\n${output}`);
    }
    await must(mirrored, ['mirror', 'sync'], 0);
    await mirrorIsWell();
  },
  /** The disk of a new mirror is full, whatever its size: nothing of it is published, and with room it goes on. */
  'disk of the mirror full': async () => {
    const place = join(mirrored, 'mirror');
    rmSync(place, { recursive: true });
    mkdirSync(place);
    const kilobytes = 64 + below(Math.floor(upstream.size() / 1024) - 64);
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${kilobytes}k`, 'tmpfs', place]);
    try {
      const output = await must(mirrored, ['mirror', 'sync'], 3);
      if (!output.includes('"disk-full"'))
        throw new Wrong(`another error than disk-full with ${kilobytes} kB:\n${output.slice(-2000)}`);
      if (releaseOf(repository) !== undefined) throw new Wrong('half a mirror is published');
      execFileSync('mount', ['-o', 'remount,size=1g', place]);
      await must(mirrored, ['mirror', 'sync'], 0);
      await mirrorIsWell();
    } finally {
      execFileSync('umount', [place]);
    }
    await must(mirrored, ['mirror', 'sync'], 0);
  },
  /** A bit of what upstream signed or of a package flips: verification names it, repair mends it. */
  'bit of the mirror': async () => {
    const published = filesBelow(realpathSync(join(repository, 'dists/stable')));
    const packages = upstream.paths().map((path) => join(repository, path));
    const { what } = flip(oneOf(below(2) === 0 ? published : packages));
    const output = await must(mirrored, ['mirror', 'verify'], 1);
    if (!output.includes('"finding"')) throw new Wrong(`nothing was found: ${what}`);
    await must(mirrored, ['mirror', 'repair'], 0);
    await mirrorIsWell();
  },
});

/** Faults of a running system, which was booted with the first tree and is brought to the second. */
Object.assign(faults, {
  /** An apply is killed, some times in a row, and finished; then its undo is, and finished. */
  'apply and undo killed': async () => {
    await withSystem(async () => {
      for (let times = below(4); times > 0; times -= 1) await apply('apply', moment('apply'));
      await apply('apply');
      await systemIs('second');
      for (let times = below(4); times > 0; times -= 1) await apply('undo', moment('undo'));
      await apply('undo');
      if ((await systemIs('first')).left > 0) throw new Wrong('a journal is left');
    });
  },
  /** An apply that was killed is taken back at once, and made anew. */
  'apply killed, taken back': async () => {
    await withSystem(async () => {
      await apply('apply', moment('apply'));
      await apply('undo');
      if ((await systemIs('first')).left > 0) throw new Wrong('a journal is left');
      await apply('apply');
      await systemIs('second');
    });
  },
});

/** What was tried, how often. */
const counts = Object.fromEntries(Object.keys(faults).map((name) => [name, 0]));
const wanted = Object.keys(faults).filter((name) => name.includes(values.only));
if (wanted.length === 0) throw new Error(`no fault has ${values.only} in its name`);
const begun = Date.now();
let status = 0;
tell(`seed ${seed}, image ${image}, in ${work}`);
try {
  while (Date.now() < until) {
    const name = oneOf(wanted);
    await faults[name]();
    counts[name] += 1;
  }
} catch (error) {
  if (!(error instanceof Wrong)) throw error;
  status = 1;
  tell(`after ${JSON.stringify(counts)}, seed ${seed}: ${error.message}\nleft as it was: ${work}`);
}
const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
tell(
  JSON.stringify(
    { seed, minutes: Math.round((Date.now() - begun) / 6000) / 10, total, counts, wrong: status === 1 },
    undefined,
    2,
  ),
);
upstream.close();
if (status === 0) rmSync(work, { recursive: true, force: true });
process.exitCode = status;
