import type { ChildProcess } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { isReliveError, ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { type AnonymousFile, anonymousFile } from '../host/anonymous.ts';
import { endGroup, start } from '../host/process.ts';
import type { SecureBootCertificates } from '../image/secure-boot-keys.ts';
import { type Accelerator, chooseAccelerator } from './accel.ts';
import { Console, verdictOf } from './console.ts';
import {
  type Architecture,
  type Firmware,
  firmwaresOf,
  firmwareVariables,
  isHostsOwn,
  machineProgram,
  mediumDevice,
  qemuArguments,
} from './qemu.ts';
import { Qmp } from './qmp.ts';
import { enrolledVariables, shimVariables } from './variable-store.ts';

/** After a bad sign the guest may go on for this long, so that the last screen shows all of its message. */
const settleMilliseconds = 1000;
/** How many of QEMU's own messages an error shows. */
const tailLines = 10;

/** The stages that a boot reports. */
export const bootStage = 'boot';
export const powerOffStage = 'power off';
const pullOutStage = 'pull out the medium';

export interface BootOptions {
  /** The hybrid ISO or the disk to boot. */
  readonly medium: string;
  /** The guest may write to the medium, which stays as it is all the same. */
  readonly scratchMedium: boolean;
  /** The sectors of the medium, in bytes. */
  readonly sectorSize: number;
  /** The image that must report itself healthy; any, where it is not known. */
  readonly image: string | undefined;
  readonly architecture: Architecture;
  /** The usual one of such machines unless given: BIOS of PCs, else UEFI. */
  readonly firmware: Firmware | undefined;
  /** The keys that `secure-boot` firmware knows, and shim behind `shim`; they are for nothing without. */
  readonly enrolled: SecureBootCertificates | undefined;
  readonly accelerator: Accelerator | 'auto';
  readonly memoryMib: number;
  readonly cpus: number;
  readonly network: 'none' | 'user';
  readonly attach: 'disk' | 'cd';
  /** Pull the medium, a disk, out of the healthy guest: it must let go of it, and power off by itself afterwards. */
  readonly pullOut: boolean;
  /** Further disks, raw; the guest may write to them. */
  readonly disks: readonly string[];
  /** How long the guest may take until it is healthy. */
  readonly timeoutSeconds: number;
  /** How long it may take to power off; then it is ended. Undefined: nobody waits for that, it is ended at once. */
  readonly powerOffSeconds: number | undefined;
  /** A file for every byte that the guest prints on its serial console. */
  readonly log: string | undefined;
  /** A PNG file for the screen as it is when the guest has reported, in whichever way. */
  readonly screenshot: string | undefined;
  /** How long a healthy guest goes on before its picture is taken; undefined: until it asks who logs in. */
  readonly settleSeconds: number | undefined;
  /** Called with each line of the serial console, without escape sequences. */
  readonly onLine: ((line: string) => void) | undefined;
  /** Called when the guest is healthy; it is powered off when the promise settles. At once unless given. */
  readonly whileHealthy: (() => Promise<void>) | undefined;
}

/** So long a screenshot waits for a login prompt. */
const promptSeconds = 20;
const promptPollSeconds = 0.5;
/** So often the power button is pressed. */
const pressAgainSeconds = 5;
/** A guest blinks for five seconds before it lets go of a device. */
const pullOutSeconds = 120;

/** Defaults measured in emulation on two cores; enough for a small server system. */
export const bootDefaults = {
  architecture: 'amd64',
  firmware: undefined,
  enrolled: undefined,
  accelerator: 'auto',
  memoryMib: 1024,
  cpus: 2,
  network: 'none',
  attach: 'disk',
  pullOut: false,
  scratchMedium: false,
  sectorSize: 512,
  disks: [],
  timeoutSeconds: 300,
  powerOffSeconds: 60,
  log: undefined,
  screenshot: undefined,
  settleSeconds: undefined,
  onLine: undefined,
  whileHealthy: undefined,
} as const satisfies Omit<BootOptions, 'medium' | 'image'>;

export interface BootResult {
  readonly healthy: true;
  /** The name by which the guest called itself. */
  readonly image: string;
  readonly firmware: Firmware;
  readonly accelerator: Accelerator;
  /** From the start of QEMU to the health line. */
  readonly seconds: number;
  /** From the power button to the end of QEMU; 0 where it was not pressed. */
  readonly powerOffSeconds: number;
  /** Whether the guest switched itself off; else it was ended. */
  readonly clean: boolean;
}

/** A guest that runs: its end, its console and its monitor. */
interface Guest {
  readonly child: ChildProcess;
  readonly console: Console;
  readonly monitor: Qmp;
  /** Settles with the name of the image that is healthy; rejects with `guest-failed`. */
  readonly healthy: Promise<string>;
  /** Settles when QEMU has ended. */
  readonly ended: Promise<void>;
}

function lastScreen(screen: readonly string[]): string {
  return screen.length === 0
    ? 'It printed nothing on its serial console.'
    : `The last screen of its console:\n${screen.map((line) => `    ${line}`).join('\n')}`;
}

function guestFailed(what: string, screen: readonly string[], hint: string, cause?: unknown): ReliveError {
  return new ReliveError('guest-failed', `the guest did not come up: ${what}\n${lastScreen(screen)}`, {
    hint,
    cause,
  });
}

async function delay(milliseconds: number): Promise<void> {
  await new Promise((done) => setTimeout(done, milliseconds));
}

/** Connects QEMU's console and monitor, and watches for what decides. */
function watch(child: ChildProcess, options: BootOptions): Guest {
  const { stdout, stderr } = child;
  const socket = child.stdio[3];
  if (stdout === null || stderr === null || !(socket instanceof Duplex)) {
    throw new TypeError('QEMU was started without its pipes');
  }
  const said: string[] = [];
  stderr.setEncoding('utf8').on('data', (text: string) => {
    said.push(...text.split('\n').filter((line) => line !== ''));
    said.splice(0, said.length - tailLines);
  });
  const ended = new Promise<void>((done) => child.once('close', () => done()));
  const hint = options.log === undefined ? '--log FILE keeps all that it prints' : `see ${options.log}`;
  let guestConsole: Console | undefined;
  const healthy = new Promise<string>((done, reject) => {
    let decided = false;
    const fail = (what: string): void => {
      decided = true;
      void delay(settleMilliseconds).then(() =>
        reject(guestFailed(what, guestConsole?.screen() ?? [], hint)),
      );
    };
    guestConsole = new Console((line) => {
      options.onLine?.(line);
      const verdict = decided ? undefined : verdictOf(line);
      if (verdict === undefined) return;
      if (verdict.state === 'failed') fail(verdict.reason);
      else if (options.image !== undefined && verdict.image !== options.image) {
        fail(`it calls itself ${verdict.image}, not ${options.image}`);
      } else if (verdict.state === 'unhealthy') fail(`it reports itself unhealthy: ${verdict.reason}`);
      else {
        decided = true;
        done(verdict.image);
      }
    });
    child.once('error', reject);
    child.once('close', (status) => {
      if (decided) return;
      decided = true;
      const words =
        said.length === 0 ? '' : ` and QEMU says:\n${said.map((line) => `    ${line}`).join('\n')}`;
      const how = status === 0 ? 'it switched itself off or restarted' : `QEMU ended with status ${status}`;
      reject(guestFailed(`${how}${words}`, guestConsole?.screen() ?? [], hint));
    });
  });
  // Whoever is waiting is told below; a guest that ends while nobody waits is no unhandled rejection.
  healthy.catch(() => undefined);
  if (guestConsole === undefined) throw new TypeError('a promise did not run its executor');
  const seen = guestConsole;
  const log = options.log === undefined ? undefined : createWriteStream(options.log, { mode: 0o644 });
  stdout.on('data', (bytes: Buffer) => {
    log?.write(bytes);
    seen.push(bytes);
  });
  stdout.once('end', () => log?.end());
  return { child, console: seen, monitor: new Qmp(socket), healthy, ended };
}

/** `promise`, or the error that `late` makes when it is not settled within `seconds`. */
async function within<T>(promise: Promise<T>, seconds: number, late: () => Error): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  try {
    return await Promise.race([
      promise,
      new Promise<never>((_done, reject) => {
        timer = setTimeout(() => reject(late()), seconds * 1000);
      }),
    ]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Waits until the guest's serial console asks for a login, which says that its screen does, too: systemd holds logins
 * back until the boot is over, so they come just after the report. Goes on when none appears.
 */
async function loginPrompt({ console: seen, ended }: Guest): Promise<void> {
  const over = ended.then(() => true);
  for (let waited = 0; waited < promptSeconds; waited += promptPollSeconds) {
    if (/login: ?$/.test(seen.screen().at(-1) ?? '')) return;
    const end = await Promise.race([over, sleep(promptPollSeconds * 1000, false)]);
    if (end) return;
  }
}

/** Waits so long, or as long as the guest runs; without a time until it asks who logs in. */
async function settle(guest: Guest, seconds: number | undefined): Promise<void> {
  if (seconds === undefined) await loginPrompt(guest);
  else await Promise.race([guest.ended, sleep(seconds * 1000, undefined, { ref: false })]);
}

/**
 * Presses the power button and waits; a guest that does not heed it is ended. The button is pressed again now and then,
 * as people do: a guest that has just come up may not watch it yet.
 */
async function powerOff(guest: Guest, limitSeconds: number): Promise<boolean> {
  const again = setInterval(() => {
    guest.monitor.powerDown().catch(() => undefined);
  }, pressAgainSeconds * 1000);
  try {
    await guest.monitor.powerDown();
    await within(
      guest.ended,
      limitSeconds,
      () => new ReliveError('timed-out', 'the guest did not power off'),
    );
    return true;
  } catch (error) {
    if (!isReliveError(error, 'timed-out', 'guest-failed')) throw error;
    await guest.monitor.quit();
    return false;
  } finally {
    clearInterval(again);
  }
}

/** Pulls the medium out, and waits until the guest has let go of it. */
async function pullOut({ monitor, console: seen }: Guest, context: Context): Promise<void> {
  context.emit({ event: 'stage', stage: pullOutStage, state: 'start' });
  const gone = new Promise<void>((done) => {
    monitor.on('event', (name) => {
      if (name === 'DEVICE_DELETED') done();
    });
  });
  await monitor.execute('device_del', { id: mediumDevice });
  const late = (): Error =>
    guestFailed(
      `it did not let go of its medium within ${pullOutSeconds} s`,
      seen.screen(),
      'its kernel needs hot plugging of PCI Express (pciehp)',
    );
  await within(gone, pullOutSeconds, late);
  context.emit({ event: 'stage', stage: pullOutStage, state: 'done' });
}

/** The firmware that is wanted, or the usual one. @throws ReliveError `usage` for one that such machines do not have */
function firmwareOf({ architecture, firmware }: Pick<BootOptions, 'architecture' | 'firmware'>): Firmware {
  const [usual = 'uefi', ...others] = firmwaresOf(architecture);
  if (firmware === undefined || firmware === usual) return usual;
  if (others.includes(firmware)) return firmware;
  throw new ReliveError('usage', `--firmware ${firmware}: a machine for ${architecture} starts by ${usual}`);
}

/** A guest's own UEFI variables: without any, or with the keys that such firmware knows. */
async function variablesFile(
  { architecture, enrolled }: Pick<BootOptions, 'architecture' | 'enrolled'>,
  firmware: Firmware,
): Promise<AnonymousFile> {
  const template = await readFile(await firmwareVariables(architecture, firmware));
  if (firmware !== 'secure-boot' && firmware !== 'shim') return await anonymousFile(template);
  if (enrolled === undefined) throw new TypeError(`firmware ${firmware} without the keys that it is to know`);
  const known = firmware === 'shim' ? shimVariables : enrolledVariables;
  return await anonymousFile(known(template, enrolled));
}

/**
 * What runs such a guest on this host.
 * @throws ReliveError `host-unable` for KVM where the guest's processor is not the host's
 */
export async function acceleratorOf(
  { architecture, accelerator }: Pick<BootOptions, 'architecture' | 'accelerator'>,
  context: Context,
): Promise<Accelerator> {
  if (isHostsOwn(architecture)) return await chooseAccelerator(accelerator, context);
  if (accelerator !== 'kvm') return 'tcg';
  throw new ReliveError('host-unable', `KVM does not run guests for ${architecture} on this host`, {
    hint: '--accel tcg emulates the processor',
  });
}

/**
 * Boots a medium in a virtual machine, waits until the guest reports itself healthy (`relive: healthy IMAGE` on its
 * serial console), and powers it off, unless nobody waits for that.
 *
 * Whatever happens, nothing is left: QEMU dies with us, and the only file it needs for itself, the UEFI variables, has
 * no name.
 * @throws ReliveError `guest-failed` with the last screen of the console, for a guest that reports itself unhealthy,
 *   panics, stops in its initramfs, ends or is not healthy in time; `usage`, `host-unable`, `tool-missing`; the abort reason of
 *   the context
 */
export async function bootImage(options: BootOptions, context: Context): Promise<BootResult> {
  const { architecture } = options;
  const firmware = firmwareOf(options);
  const accelerator = await acceleratorOf(options, context);
  const variables = firmware === 'bios' ? undefined : await variablesFile(options, firmware);
  let guest: Guest | undefined;
  try {
    const started = performance.now();
    const since = (): number => (performance.now() - started) / 1000;
    context.emit({ event: 'stage', stage: bootStage, state: 'start' });
    const child = start(
      machineProgram(architecture),
      qemuArguments({
        ...options,
        firmware,
        medium: resolve(options.medium),
        disks: options.disks.map((disk) => resolve(disk)),
        accelerator,
        pullable: options.pullOut,
        endOnRestart: options.whileHealthy === undefined,
        variables: variables?.path,
      }),
      { signal: context.signal, stdin: 'pipe', statusPipe: true },
    );
    guest = watch(child, {
      ...options,
      onLine: options.onLine ?? ((line) => context.emit({ event: 'note', message: line, source: bootStage })),
    });
    const { monitor, ended, console: seen } = guest;
    // A QEMU that does not even start shows in `healthy`, with its own words.
    const opened = monitor.open().catch(() => undefined);
    const takeScreenshot = async (): Promise<void> => {
      if (options.screenshot === undefined) return;
      await opened;
      await monitor.screenshot(resolve(options.screenshot));
    };
    const late = (): Error =>
      guestFailed(
        `it was not healthy within ${options.timeoutSeconds} s`,
        seen.screen(),
        'a slow host needs a longer --timeout; --console shows what the guest is doing',
      );
    let image: string;
    try {
      image = await within(guest.healthy, options.timeoutSeconds, late);
    } catch (error) {
      // An interrupt ends QEMU, which looks like a guest that ends.
      context.signal.throwIfAborted();
      // The picture helps, the error counts.
      await takeScreenshot().catch((failure: unknown) => {
        if (!isReliveError(failure)) throw failure;
      });
      throw error;
    }
    const seconds = since();
    context.emit({ event: 'stage', stage: bootStage, state: 'done', seconds, detail: `${image} is healthy` });
    if (options.screenshot !== undefined) await settle(guest, options.settleSeconds);
    context.signal.throwIfAborted();
    await takeScreenshot();
    if (options.pullOut) await pullOut(guest, context);
    context.signal.throwIfAborted();
    await Promise.race([options.whileHealthy?.() ?? Promise.resolve(), ended]);
    context.signal.throwIfAborted();
    const result = { healthy: true, image, firmware, accelerator, seconds } as const;
    if (child.exitCode !== null) return { ...result, powerOffSeconds: 0, clean: true };
    if (options.powerOffSeconds === undefined) {
      await monitor.quit();
      return { ...result, powerOffSeconds: 0, clean: false };
    }
    context.emit({ event: 'stage', stage: powerOffStage, state: 'start' });
    const pressed = performance.now();
    const clean = await powerOff(guest, options.powerOffSeconds);
    await ended;
    context.signal.throwIfAborted();
    const powerOffSeconds = (performance.now() - pressed) / 1000;
    context.emit({ event: 'stage', stage: powerOffStage, state: 'done', seconds: powerOffSeconds });
    if (!clean && options.pullOut) {
      const hint = 'only an image in RAM goes on without its medium: boot.ram in its profile';
      throw guestFailed('it could not even power off without its medium', seen.screen(), hint);
    }
    if (!clean) {
      context.emit({
        event: 'warning',
        message: `the guest did not power off within ${options.powerOffSeconds} s and was ended`,
        hint: 'systemd-logind or acpid must run in the guest for the power button to work',
      });
    }
    return { ...result, powerOffSeconds, clean };
  } finally {
    if (guest !== undefined && guest.child.exitCode === null && guest.child.signalCode === null) {
      endGroup(guest.child);
      await guest.ended;
    }
    await variables?.close();
  }
}
