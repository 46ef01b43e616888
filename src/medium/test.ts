import { rm } from 'node:fs/promises';
import { availableParallelism, freemem, tmpdir } from 'node:os';
import { join } from 'node:path';
import { isReliveError, ReliveError } from '../core/error.ts';
import { type Context, inStage, type WorkEvent } from '../core/event.ts';
import { inParallel } from '../core/parallel.ts';
import { withScratchDirectory } from '../host/anonymous.ts';
import { exists, makeDirectories } from '../host/files.ts';
import { run } from '../host/process.ts';
import { requireTool } from '../host/tools.ts';
import { untestable } from '../image/candidate.ts';
import { type BootManifest, boots } from '../image/manifest.ts';
import { secureBootCertificates } from '../image/secure-boot-keys.ts';
import { readManifest, type StoredImage } from '../image/store.ts';
import type { Accelerator } from '../vm/accel.ts';
import { acceleratorOf, type BootOptions, bootDefaults, bootImage } from '../vm/boot.ts';
import {
  type Architecture,
  type Firmware,
  firmwareVariables,
  guestArchitectures,
  machineProgram,
} from '../vm/qemu.ts';
import { type ImageSource, withBootableIso } from './export.ts';

/** The stage that a test's events belong to; each firmware has its own beside it. */
export const testStage = 'test';

/** How long a guest may take until it is healthy, in seconds: emulated on two shared cores, servers take minutes. */
const limits: Readonly<Record<Accelerator, number>> = { kvm: 300, tcg: 900 };

export interface TestOptions {
  /** What to boot by; all that can start the image unless given. */
  readonly firmwares?: readonly Firmware[] | undefined;
  readonly accelerator?: Accelerator | 'auto';
  /** How long each guest may take until it is healthy; by the accelerator unless given. */
  readonly timeoutSeconds?: number | undefined;
  /** In MiB; by what the image copies to RAM unless given. */
  readonly memoryMib?: number | undefined;
  /** A directory for what the guests print, FIRMWARE.log each; it is made. */
  readonly consoles: string;
}

/** One boot. */
export interface TestRun {
  readonly firmware: Firmware;
  readonly passed: boolean;
  readonly accelerator: Accelerator;
  /** From the start of the machine to its report; for one that failed until that was known. */
  readonly seconds: number;
  /** What went wrong, with the last screen of the console. */
  readonly reason?: string;
  /** All that it printed. */
  readonly log: string;
}

export interface TestResult {
  readonly image: string;
  readonly passed: boolean;
  /** What is wrong with the image before it is booted at all. */
  readonly fault?: string;
  readonly runs: readonly TestRun[];
}

/** What starts an image: on PCs BIOS and UEFI, the latter with the site's keys alone where the image is for Secure Boot. */
export function testFirmwares({
  architecture,
  boot,
}: {
  readonly architecture: string;
  readonly boot: { readonly secureBoot?: boolean | 'shim' | 'debian' | undefined };
}): Firmware[] {
  if (architecture === 'i386') return ['bios'];
  if (architecture !== 'amd64') return ['uefi'];
  if (boot.secureBoot === 'debian') return ['bios', 'microsoft'];
  if (boot.secureBoot === 'shim') return ['bios', 'shim'];
  return ['bios', boot.secureBoot === true ? 'secure-boot' : 'uefi'];
}

/** How much memory a guest gets, in MiB: what its layers take there besides what programs need. */
export function testMemory({ boot, layers, unpacked }: BootManifest): number {
  const sum = layers.reduce((bytes, { size }) => bytes + size, 0);
  const inMemory = { none: 0, layers: sum, unpacked }[boot.ram];
  return bootDefaults.memoryMib + Math.ceil((inMemory * 1.1) / 2 ** 20);
}

function machineOf(name: string): Architecture {
  const known = guestArchitectures.find((one) => one === name);
  if (known !== undefined) return known;
  throw new ReliveError('host-unable', `there is no virtual machine for ${name}`);
}

/**
 * Looks for what a test needs, before long work begins.
 * @throws ReliveError `tool-missing`
 */
export async function requireTestTools(architecture: string, firmwares: readonly Firmware[]): Promise<void> {
  const machine = machineOf(architecture);
  for (const tool of [machineProgram(machine), 'xorriso', 'grub-mkimage']) requireTool(tool);
  for (const firmware of firmwares) if (firmware !== 'bios') await firmwareVariables(machine, firmware);
}

/** Where a script of live-boot may be in an initramfs, by its age. */
const scriptPlaces = ['usr/lib', 'lib'].flatMap((lib) =>
  ['main', '.'].map((part) => `${part}/${lib}/live/boot/9999-relive`),
);

/**
 * Whether the initramfs has relive's script. Without it live-boot mounts whatever it finds, unchecked: such an image comes
 * up, and must not pass.
 */
async function checksItself({ directory }: StoredImage, context: Context): Promise<boolean> {
  return await withScratchDirectory(tmpdir(), async (scratch) => {
    const tree = join(scratch, 'tree');
    await run('unmkinitramfs', [join(directory, 'initrd.img'), tree], context);
    const there = await Promise.all(scriptPlaces.map(async (place) => await exists(join(tree, place))));
    return there.includes(true);
  });
}

/** Events of one of several guests, told apart by its firmware. */
function ofGuest(context: Context, firmware: Firmware): Context {
  const emit = (event: WorkEvent): void => {
    if ('stage' in event) context.emit({ ...event, stage: `${event.stage} (${firmware})` });
    else if (event.event === 'note' && event.source !== undefined)
      context.emit({ ...event, source: firmware });
    else context.emit(event);
  };
  return { ...context, emit };
}

async function bootOnce(options: BootOptions & { readonly log: string }, context: Context): Promise<TestRun> {
  const { firmware = 'bios', log } = options;
  const accelerator = await acceleratorOf(options, context);
  const started = performance.now();
  try {
    const { seconds } = await bootImage(options, ofGuest(context, firmware));
    return { firmware, passed: true, accelerator, seconds, log };
  } catch (error) {
    if (!isReliveError(error, 'guest-failed')) throw error;
    const seconds = (performance.now() - started) / 1000;
    return { firmware, passed: false, accelerator, seconds, reason: error.message, log };
  }
}

/**
 * Boots an image as a user would, through the GRUB of its ISO, by each firmware, and waits for its report of health. All at
 * once where cores and memory allow.
 * @param source where the image is
 * @throws ReliveError `usage` for an image that cannot be booted here, or by that firmware; `tool-missing`, `host-unable`
 */
export async function testImage(
  source: ImageSource,
  image: StoredImage,
  options: TestOptions,
  context: Context,
): Promise<TestResult> {
  const manifest = await readManifest(image);
  const why = untestable(manifest);
  if (why !== undefined || !boots(manifest)) {
    throw new ReliveError('usage', `${image.name} cannot be tested: ${why}`);
  }
  const architecture = machineOf(manifest.architecture);
  const firmwares = options.firmwares ?? testFirmwares(manifest);
  await requireTestTools(architecture, firmwares);
  return await inStage(context, testStage, async () => {
    if (!(await checksItself(image, context))) {
      const fault = "its initramfs lacks relive's script, so that nothing of what it starts is checked";
      return { image: image.name, passed: false, fault, runs: [] };
    }
    await makeDirectories(options.consoles);
    const accelerator = await acceleratorOf(
      { architecture, accelerator: options.accelerator ?? 'auto' },
      context,
    );
    const wanted = firmwares.includes('secure-boot') || firmwares.includes('shim');
    const enrolled = wanted ? await secureBootCertificates(source) : undefined;
    const memoryMib = options.memoryMib ?? testMemory(manifest);
    const cores = availableParallelism();
    const atOnce = cores >= firmwares.length && freemem() > firmwares.length * memoryMib * 1.2 * 2 ** 20;
    const runs = await withBootableIso(
      async () => source,
      image.name,
      context,
      async ({ file }) => {
        const share = Math.floor(cores / (atOnce ? firmwares.length : 1));
        return await inParallel(
          firmwares,
          atOnce ? firmwares.length : 1,
          async (firmware): Promise<TestRun> => {
            const log = join(options.consoles, `${firmware}.log`);
            await rm(log, { force: true });
            const guest = {
              ...{ ...bootDefaults, architecture, firmware, enrolled, accelerator, memoryMib, log },
              ...{ medium: file, image: image.name },
              // What was to be known is known, and nothing is kept that it could lose.
              powerOffSeconds: undefined,
              cpus: Math.max(1, Math.min(bootDefaults.cpus, share)),
              timeoutSeconds: options.timeoutSeconds ?? limits[accelerator],
            };
            return await bootOnce(guest, context);
          },
        );
      },
    );
    return { image: image.name, passed: runs.every(({ passed }) => passed), runs };
  });
}
