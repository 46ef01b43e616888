import { ReliveError } from '../core/error.ts';
import { exists } from '../host/files.ts';
import { secureBootCertificates } from '../image/secure-boot-keys.ts';
import { withBootableIso } from '../medium/export.ts';
import { diskKind } from '../medium/target.ts';
import { formatSeconds } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import { bootDefaults, bootImage } from '../vm/boot.ts';
import { type Architecture, firmwares, guestArchitectures } from '../vm/qemu.ts';
import { type Call, choiceOption, numberOption, optionValue, requiredArgument } from './command.ts';

/** The seconds of --settle, which says when the picture is taken and means nothing without one. */
function settleOption(call: Call): number | undefined {
  const seconds = numberOption(call, 'settle', 86_400);
  if (seconds === undefined || optionValue(call, 'screenshot') !== undefined) return seconds;
  throw new ReliveError('usage', '--settle says when the picture is taken', {
    hint: 'name its file with --screenshot FILE.png',
  });
}

/** The seconds of --power-off; undefined for 0, which is to wait for nothing. */
function powerOffOption(call: Call): number | undefined {
  const seconds = numberOption(call, 'powerOff', 86_400, 0) ?? bootDefaults.powerOffSeconds;
  if (seconds > 0) return seconds;
  if (call.options['pullOut'] !== true) return undefined;
  throw new ReliveError('usage', '--pull-out: the guest must show that it still powers off', {
    hint: 'leave --power-off 0 out',
  });
}

/** The machine that an image wants, or for an ISO, which does not say, --architecture. */
function machineFor(call: Call, architecture: string | undefined): Architecture {
  const wanted = choiceOption(call, 'architecture', guestArchitectures);
  const known = guestArchitectures.find((one) => one === architecture);
  if (wanted === undefined || wanted === known) return known ?? bootDefaults.architecture;
  if (architecture === undefined) return wanted;
  throw new ReliveError('usage', `--architecture ${wanted}: the image is for ${architecture}`);
}

/** The files of --disk, which must be there: QEMU would say so in its own words, and late. */
async function disksOf(call: Call): Promise<readonly string[]> {
  const disks = optionValue(call, 'disk')?.split(',') ?? [];
  for (const disk of disks) {
    if (disk !== '' && (await exists(disk))) continue;
    throw new ReliveError('usage', `--disk ${JSON.stringify(disk)}: there is no such file`, {
      hint: 'truncate -s 8G FILE makes an empty disk, mkfs.ext4 -L LABEL FILE a file system in it',
    });
  }
  return disks;
}

export async function run(call: Call): Promise<CommandResult> {
  const { context } = call;
  const keep = call.options['keep'] === true;
  const log = optionValue(call, 'log');
  const screenshot = optionValue(call, 'screenshot');
  const firmware = choiceOption(call, 'firmware', firmwares) ?? bootDefaults.firmware;
  const settings = {
    ...bootDefaults,
    firmware,
    enrolled:
      firmware === 'secure-boot' || firmware === 'shim'
        ? await secureBootCertificates(await loadSite(call.siteDirectory))
        : undefined,
    accelerator: choiceOption(call, 'accel', ['auto', 'kvm', 'tcg']) ?? bootDefaults.accelerator,
    pullOut: call.options['pullOut'] === true,
    network: choiceOption(call, 'net', ['none', 'user']) ?? bootDefaults.network,
    memoryMib: numberOption(call, 'memory', 1_048_576) ?? bootDefaults.memoryMib,
    disks: await disksOf(call),
    cpus: numberOption(call, 'cpus', 255) ?? bootDefaults.cpus,
    timeoutSeconds: numberOption(call, 'timeout', 86_400) ?? bootDefaults.timeoutSeconds,
    powerOffSeconds: powerOffOption(call),
    log,
    screenshot,
    settleSeconds: settleOption(call),
    onLine:
      call.options['console'] === true
        ? (line: string): void => context.emit({ event: 'note', message: line })
        : undefined,
    whileHealthy: keep
      ? async (): Promise<void> => {
          context.emit({ event: 'note', message: 'The guest runs until Ctrl-C, or until it switches off.' });
          await new Promise<never>(() => undefined);
        }
      : undefined,
  };
  const result = await withBootableIso(
    async () => await loadSite(call.siteDirectory),
    requiredArgument(call, 0),
    context,
    async ({ file, image, architecture }) => {
      const { iso, sectorSize } = await diskKind(file);
      const machine = { architecture: machineFor(call, architecture), scratchMedium: !iso, sectorSize };
      return await bootImage({ ...settings, ...machine, medium: file, image }, context);
    },
  );
  const { image, accelerator, seconds, powerOffSeconds, clean } = result;
  const unclean = settings.powerOffSeconds === undefined ? 'ended at once' : 'had to be ended';
  const end = clean ? `powered off in ${formatSeconds(powerOffSeconds)}` : unclean;
  return {
    ok: true,
    data: { ...result, log, screenshot },
    text: `${image} is healthy: up in ${formatSeconds(seconds)} (${result.firmware}, ${accelerator}), ${end}`,
  };
}
