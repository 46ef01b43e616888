import { accessSync, constants } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { freemem, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { isReliveError, messageOf, systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { emulationHint, isNative, runsPrograms } from './emulation.ts';
import { exists, freeBytes } from './files.ts';
import { debianKeyring, packageUses } from './packages.ts';
import { type RunResult, run } from './process.ts';
import { findTool, toolsByPackage } from './tools.ts';

/** What was found of one thing that relive uses on this host. */
export interface Check {
  readonly name: string;
  /** `unsuitable` is there, yet not as it must be. */
  readonly state: 'good' | 'missing' | 'unsuitable';
  /** Without it relive cannot do its work; else only what `purpose` says does not go. */
  readonly needed: boolean;
  readonly purpose: string;
  /** The version, or what is wrong. */
  readonly detail: string;
  /** The Debian package that would mend it. */
  readonly install?: string;
  /** What to do where no package helps. */
  readonly hint?: string;
}

const oldestNode = [20, 19] as const;
/** The primary keys that sign Debian 13 and its security archive (ftp-master.debian.org/keys.html). */
const trixieKeys = ['04B54C3CDCA79751B16BC6B5225629DF75B188BD', '5E04A1E3223A19A20706E20F9904613D4CCE68C6'];
/** What the stages, the layers and the ISO of a small system take, with room for the next. */
const neededDiskBytes = 3e9;
const neededMemoryBytes = 1e9;
const answerSeconds = 20;
/** The hint of what could not be tried. */
const installFirst = 'install what is missing, then ask again';

/** The first thing that looks like a version in what a program says of itself; undefined where there is none. */
export function versionIn(text: string): string | undefined {
  // Debian's own versions, in parentheses behind the upstream one, would be the second match.
  return /(?<![\w.])v?(\d+(?:\.\d+)+[\w.+~-]*)/.exec(text)?.[1];
}

/** A table of what is on this host that relive uses: programs, kernel, keys, room. Changes nothing on the host. */
export async function checkHost(siteDirectory: string, context: Context): Promise<readonly Check[]> {
  const [packages, kernel, rest] = await Promise.all([
    Promise.all(
      [...toolsByPackage()]
        .toSorted(([a], [b]) => (a < b ? -1 : 1))
        .map(async ([name, tools]) => await checkPackage(name, tools, context)),
    ),
    checkKernel(context),
    Promise.all([checkKeyring(context), checkDisk(siteDirectory)]),
  ]);
  const [keyring, disk] = rest;
  return [
    checkNode(process.versions.node),
    checkRoot(),
    checkMachine(),
    ...packages,
    ...(await checkEmulation(context)),
    ...(await checkFirmware()),
    keyring,
    ...kernel,
    checkKvm(),
    disk,
    checkMemory(),
  ];
}

/** @param version as of `process.versions.node` */
export function checkNode(version: string): Check {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const fresh = major > oldestNode[0] || (major === oldestNode[0] && minor >= oldestNode[1]);
  return {
    name: 'Node.js',
    state: fresh ? 'good' : 'unsuitable',
    needed: true,
    purpose: 'running relive',
    detail: fresh ? version : `${version} is older than ${oldestNode.join('.')}`,
    ...(fresh ? {} : { hint: 'Debian 13 has one that serves; on Debian 12 ./run of a checkout fetches one' }),
  };
}

function checkRoot(): Check {
  const root = process.geteuid?.() === 0;
  return {
    name: 'root',
    state: root ? 'good' : 'unsuitable',
    needed: true,
    purpose: 'mounting and changing owners',
    detail: root ? 'yes' : 'this is an ordinary user; namespaces and mounts were not tried',
    ...(root ? {} : { hint: 'sudo relive doctor' }),
  };
}

function checkMachine(): Check {
  const suits = process.arch === 'x64';
  return {
    name: 'machine',
    state: suits ? 'good' : 'unsuitable',
    needed: true,
    purpose: 'building for amd64',
    detail: suits ? 'amd64' : `${process.arch}; amd64 images are built on amd64`,
  };
}

async function ask(command: readonly [string, ...string[]], context: Context): Promise<RunResult> {
  const [program, ...args] = command;
  return await run(program, args, { signal: context.signal, timeoutSeconds: answerSeconds });
}

async function checkPackage(name: string, tools: readonly string[], context: Context): Promise<Check> {
  const { purpose, ask: question, need } = packageUses[name] ?? { purpose: tools.join(', ') };
  const common = { name, needed: need === undefined, purpose };
  const missing = tools.filter((tool) => findTool(tool) === undefined);
  if (missing.length > 0) {
    return { ...common, state: 'missing', detail: `without ${missing.join(', ')}`, install: name };
  }
  if (question === undefined) return { ...common, state: 'good', detail: '' };
  try {
    const { stdout, stderr } = await ask(question, context);
    return { ...common, state: 'good', detail: versionIn(`${stdout}\n${stderr}`) ?? 'version unknown' };
  } catch (error) {
    if (!isReliveError(error, 'tool-failed', 'timed-out', 'disk-full')) throw error;
    return {
      ...common,
      state: 'unsuitable',
      detail: messageOf(error),
      hint: `apt-get install --reinstall ${name}`,
    };
  }
}

/** Whether systems of other architectures can be built here. */
async function checkEmulation(context: Context): Promise<Check[]> {
  // Only root may try.
  if (process.geteuid?.() !== 0) return [];
  const others = ['arm64', 'armhf', 'i386'];
  return await Promise.all(
    others.map(async (architecture): Promise<Check> => {
      const common = {
        name: `programs for ${architecture}`,
        needed: false,
        purpose: `profiles with "architecture: ${architecture}"`,
      };
      if (await runsPrograms(architecture, context)) {
        return { ...common, state: 'good', detail: isNative(architecture) ? 'run' : 'run, emulated' };
      }
      return { ...common, state: 'missing', detail: 'do not run', hint: emulationHint(architecture) };
    }),
  );
}

/** Files without a program: GRUB's modules, firmware for virtual machines. */
async function checkFirmware(): Promise<Check[]> {
  const files = Object.entries(packageUses).flatMap(([name, { purpose, file, need }]) =>
    file === undefined || file === debianKeyring
      ? []
      : [{ name, path: file, purpose, needed: need === undefined }],
  );
  return await Promise.all(
    files.map(async ({ name, path, purpose, needed }): Promise<Check> => {
      return (await exists(path))
        ? { name, state: 'good', needed, purpose, detail: path }
        : { name, state: 'missing', needed, purpose, detail: `without ${path}`, install: name };
    }),
  );
}

async function checkKeyring(context: Context): Promise<Check> {
  const name = 'debian-archive-keyring';
  const common = { name, needed: true, purpose: "checking Debian's signatures" };
  if (!(await exists(debianKeyring))) {
    return { ...common, state: 'missing', detail: `without ${debianKeyring}`, install: name };
  }
  if (findTool('gpg') === undefined) {
    return { ...common, state: 'unsuitable', detail: 'not tried, without gpg', hint: installFirst };
  }
  return await inTemporaryDirectory(async (home) => {
    // gpg ends with 2 on what it cannot read: that has no keys for us.
    const { stdout } = await run(
      'gpg',
      ['--homedir', home, '--batch', '--show-keys', '--with-colons', debianKeyring],
      { signal: context.signal, timeoutSeconds: answerSeconds, accept: [0, 2] },
    );
    const have = new Set(
      stdout
        .split('\n')
        .filter((line) => line.startsWith('fpr:'))
        .map((line) => line.split(':')[9]),
    );
    const lacking = trixieKeys.filter((key) => !have.has(key));
    if (lacking.length === 0) return { ...common, state: 'good', detail: 'has the keys of Debian 13' };
    return {
      ...common,
      state: 'unsuitable',
      detail: `${debianKeyring} lacks the keys of Debian 13: ${lacking.join(', ')}`,
      hint: `apt-get update && apt-get install ${name}`,
    };
  });
}

async function inTemporaryDirectory<T>(work: (path: string) => Promise<T>): Promise<T> {
  const path = await mkdtemp(join(tmpdir(), 'relive-doctor-'));
  try {
    return await work(path);
  } finally {
    await rm(path, { recursive: true, force: true });
  }
}

/** Why a command did not go, in one line, or undefined when it went. */
async function problemOf(
  command: readonly [string, ...string[]],
  context: Context,
): Promise<string | undefined> {
  try {
    await ask(command, context);
    return undefined;
  } catch (error) {
    if (!isReliveError(error, 'tool-missing', 'tool-failed', 'timed-out', 'disk-full')) throw error;
    return messageOf(error).split('\n').at(-1)?.trim();
  }
}

/** What a check says that wants a program which is not there; the program has a line of its own. */
const untried = (...tools: readonly string[]): string | undefined => {
  const missing = tools.filter((tool) => findTool(tool) === undefined);
  return missing.length === 0 ? undefined : `not tried, without ${missing.join(', ')}`;
};

/** What helps against a problem of the kernel; `usual` where nothing better is known. */
function kernelHint(problem: string, usual: string): string {
  if (problem.startsWith('not tried')) return installFirst;
  // chroot(8) alone leaves / no mount point.
  if (problem.includes('cannot change root filesystem propagation')) {
    return 'in a chroot: mount --bind DIR DIR before entering it, so that its / is a mount point';
  }
  return usual;
}

/** Mounts `args` inside a mount namespace that ends with mount(8) itself, so that the host sees nothing of it. */
async function mountProblem(args: readonly string[], context: Context): Promise<string | undefined> {
  return await problemOf(['unshare', '--mount', '--propagation', 'private', '--', 'mount', ...args], context);
}

async function overlayProblem(directory: string, context: Context): Promise<string | undefined> {
  const parts = ['lower', 'upper', 'work', 'merged'].map((part) => join(directory, part));
  await Promise.all(parts.map(async (part) => await mkdir(part)));
  const [lower = '', upper = '', work = '', merged = ''] = parts;
  const options = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
  return await mountProblem(['-t', 'overlay', 'overlay', '-o', options, merged], context);
}

async function squashProblem(directory: string, context: Context): Promise<string | undefined> {
  const [tree, file, at] = ['tree', 'layer.squashfs', 'at'].map((part) => join(directory, part));
  if (tree === undefined || file === undefined || at === undefined)
    throw new TypeError('three names, three paths');
  await Promise.all([mkdir(tree), mkdir(at)]);
  await writeFile(join(tree, 'file'), 'a file\n');
  return (
    (await problemOf(['mksquashfs', tree, file, '-quiet', '-no-progress'], context)) ??
    (await mountProblem(['-t', 'squashfs', '-o', 'loop,ro', file, at], context))
  );
}

/** What the kernel says it has, for an ordinary user who cannot try. */
async function notListed(name: string): Promise<string | undefined> {
  const listed = (await readFile('/proc/filesystems', 'utf8')).split('\n').map((line) => line.split('\t')[1]);
  return listed.includes(name) ? undefined : `the running kernel does not have ${name}`;
}

/** Namespaces, overlayfs and SquashFS: tried as root, else read off the kernel's list. */
async function checkKernel(context: Context): Promise<readonly Check[]> {
  const root = process.geteuid?.() === 0;
  const privileged = 'a container must be privileged for this';
  const check = (
    name: string,
    purpose: string,
    hint: string,
    problem: string | undefined,
    detail = root ? 'works' : 'in the kernel, not tried',
  ): Check => ({
    name,
    needed: true,
    purpose,
    ...(problem === undefined
      ? { state: 'good', detail }
      : { state: 'unsuitable', detail: problem, hint: kernelHint(problem, hint) }),
  });
  return await inTemporaryDirectory(async (directory) => {
    const overlay = root
      ? (untried('mount') ?? (await overlayProblem(directory, context)))
      : await notListed('overlay');
    const noLoop = (await exists('/dev/loop-control')) ? undefined : 'there is no /dev/loop-control';
    const squash = root
      ? (untried('mount', 'mksquashfs') ?? (await squashProblem(directory, context)))
      : await notListed('squashfs');
    const checks = [
      check(
        'overlayfs',
        'stacking layers',
        'modprobe overlay; where the temporary directory is itself on an overlay, set TMPDIR',
        overlay,
      ),
      check('squashfs', 'mounting layers', `modprobe squashfs loop; ${privileged}`, noLoop ?? squash),
    ];
    if (!root) return checks;
    const namespaces = untried('mount') ?? (await mountProblem(['--bind', directory, directory], context));
    return [check('namespaces', 'mounts that the host does not see', privileged, namespaces), ...checks];
  });
}

function checkKvm(): Check {
  const common = {
    name: 'KVM',
    needed: false,
    purpose: 'fast virtual machines; without it they are emulated',
  };
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return { ...common, state: 'good', detail: 'there; relive vm tries whether it works' };
  } catch (error) {
    if (systemCode(error) === 'EACCES') {
      return {
        ...common,
        state: 'unsuitable',
        detail: 'this user may not open /dev/kvm',
        hint: 'run as root or join the group kvm',
      };
    }
    return { ...common, state: 'missing', detail: 'there is no /dev/kvm' };
  }
}

async function checkDisk(siteDirectory: string): Promise<Check> {
  const free = await freeBytes(siteDirectory);
  const enough = free >= neededDiskBytes;
  return {
    name: 'disk',
    state: enough ? 'good' : 'unsuitable',
    needed: true,
    purpose: 'stages, layers and images',
    detail: `${(free / 1e9).toFixed(1)} GB free at ${siteDirectory}${enough ? '' : `, ${neededDiskBytes / 1e9} GB are needed`}`,
    ...(enough ? {} : { hint: 'make room, or put the site elsewhere' }),
  };
}

function checkMemory(): Check {
  const enough = totalmem() >= neededMemoryBytes;
  return {
    name: 'memory',
    state: enough ? 'good' : 'unsuitable',
    needed: true,
    purpose: 'building and virtual machines',
    detail: `${(freemem() / 1e9).toFixed(1)} GB of ${(totalmem() / 1e9).toFixed(1)} GB free`,
    ...(enough ? {} : { hint: `${neededMemoryBytes / 1e9} GB are needed` }),
  };
}
