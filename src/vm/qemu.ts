import { ReliveError } from '../core/error.ts';
import { exists } from '../host/files.ts';
import type { Accelerator } from './accel.ts';

/**
 * `uefi32` is UEFI of 32 bits on a machine of 64, as tablets had it. Three of them are UEFI that starts only what keys have signed which it knows: `secure-boot` the keys of a site, `microsoft`
 * those of Microsoft, as machines are sold, and `shim` these, where shim knows the key of a site.
 */
export const firmwares = ['bios', 'uefi', 'uefi32', 'secure-boot', 'shim', 'microsoft'] as const;
export type Firmware = (typeof firmwares)[number];

/** Whether such firmware checks signatures. */
export function checksSignatures(firmware: Firmware): boolean {
  return firmware === 'secure-boot' || firmware === 'shim' || firmware === 'microsoft';
}

/** A virtual machine, and the medium it boots from. */
export interface Machine {
  readonly architecture: Architecture;
  readonly firmware: Firmware;
  readonly accelerator: Accelerator;
  readonly memoryMib: number;
  readonly cpus: number;
  /** `none`, or QEMU's own NAT. */
  readonly network: 'none' | 'user';
  /** A hybrid ISO, or a disk. */
  readonly medium: string;
  /** The guest may write to the medium; nothing of it stays. */
  readonly scratchMedium: boolean;
  /** The sectors of the medium, in bytes. */
  readonly sectorSize: number;
  /** Further disks, raw; the guest may write to them. */
  readonly disks: readonly string[];
  /** How the medium is attached: a stick or disk (virtio-blk), or a drive (virtio-scsi). */
  readonly attach: 'disk' | 'cd';
  /** The medium, a disk, can be pulled out while the guest runs: it is `mediumDevice` then. */
  readonly pullable?: boolean;
  /** A guest that restarts ends QEMU instead: a restart during a test is a failure, not another try. */
  readonly endOnRestart: boolean;
  /** The UEFI variables, which QEMU changes; not for `bios`. */
  readonly variables: string | undefined;
}

/** The name of the device that the medium is in, where it can be pulled out. */
export const mediumDevice = 'medium-device';

/** What a guest's machine is made of, by its architecture. */
interface MachineKind {
  readonly program: string;
  /** QEMU's machine type, the emulated processor, the screen. */
  readonly machine: string;
  readonly processor: string;
  readonly screen: string;
  readonly firmwares: readonly Firmware[];
  /** UEFI of 32 bits: Debian has it only as one that wants system management mode; it knows no keys. */
  readonly uefi32?: { readonly code: string; readonly variables: string; readonly brings: string };
  readonly uefi: {
    readonly code: string;
    /** The code that enforces signatures; wants the machine's system management mode. */
    readonly secureCode?: string;
    readonly variables: string;
    /** Variables with the keys of Microsoft. */
    readonly microsoftVariables?: string;
    readonly brings: string;
  };
}

/**
 * The processor of PCs is without cmpxchg16b: with it Linux 6.12 panicked under QEMU 7.2 (Debian 12) in all of five boots
 * on two processors and in one of two on one, mostly in kmalloc right after that instruction, each time with garbage in
 * the flags register; without it in none of ten. That QEMU spoils the flags there is read from those dumps, not from
 * its source.
 */
const pc: MachineKind = {
  program: 'qemu-system-x86_64',
  machine: 'q35',
  processor: 'qemu64,-cx16',
  screen: 'VGA',
  firmwares,
  uefi: {
    code: '/usr/share/OVMF/OVMF_CODE_4M.fd',
    secureCode: '/usr/share/OVMF/OVMF_CODE_4M.secboot.fd',
    variables: '/usr/share/OVMF/OVMF_VARS_4M.fd',
    microsoftVariables: '/usr/share/OVMF/OVMF_VARS_4M.ms.fd',
    brings: 'ovmf',
  },
  uefi32: {
    code: '/usr/share/OVMF/OVMF32_CODE_4M.secboot.fd',
    variables: '/usr/share/OVMF/OVMF32_VARS_4M.fd',
    brings: 'ovmf-ia32',
  },
};
const arm64: MachineKind = {
  program: 'qemu-system-aarch64',
  machine: 'virt',
  processor: 'cortex-a57',
  screen: 'virtio-gpu-pci',
  firmwares: ['uefi'],
  uefi: {
    code: '/usr/share/AAVMF/AAVMF_CODE.fd',
    variables: '/usr/share/AAVMF/AAVMF_VARS.fd',
    brings: 'qemu-efi-aarch64',
  },
};
const armhf: MachineKind = {
  ...arm64,
  program: 'qemu-system-arm',
  // Above 4 GiB only kernels with large physical addresses see devices.
  machine: 'virt,highmem=off',
  processor: 'cortex-a15',
  uefi: {
    code: '/usr/share/AAVMF/AAVMF32_CODE.fd',
    variables: '/usr/share/AAVMF/AAVMF32_VARS.fd',
    brings: 'qemu-efi-arm',
  },
};
const machines = { amd64: pc, i386: pc, arm64, armhf } as const;

/** A processor that guests can have, by Debian's name for it. */
export type Architecture = keyof typeof machines;

export const guestArchitectures: readonly Architecture[] = ['amd64', 'i386', 'arm64', 'armhf'];

/** The program that is this machine. */
export function machineProgram(architecture: Architecture): string {
  return machines[architecture].program;
}

/** What can start such a machine; the first is the usual one. */
export function firmwaresOf(architecture: Architecture): readonly Firmware[] {
  return machines[architecture].firmwares;
}

/** Whether KVM could run such a guest on this host, as far as its processor goes. */
export function isHostsOwn(architecture: Architecture): boolean {
  return machines[architecture] === pc && process.arch === 'x64';
}

/**
 * The template of UEFI variables, of which each guest gets a copy.
 * @throws ReliveError `tool-missing`
 */
export async function firmwareVariables(
  architecture: Architecture,
  firmware: Firmware = 'uefi',
): Promise<string> {
  const { uefi: usual, uefi32, firmwares: own }: MachineKind = machines[architecture];
  const uefi: MachineKind['uefi'] = firmware === 'uefi32' ? (uefi32 ?? usual) : usual;
  const withMicrosoft = firmware === 'shim' || firmware === 'microsoft';
  const variables = withMicrosoft ? (uefi.microsoftVariables ?? uefi.variables) : uefi.variables;
  for (const file of [uefi.code, uefi.secureCode ?? uefi.code, variables]) {
    if (await exists(file)) continue;
    throw new ReliveError('tool-missing', `UEFI firmware for guests is not installed: ${file}`, {
      hint: `apt-get install ${uefi.brings}${own.includes('bios') ? ', or boot by --firmware bios' : ''}`,
    });
  }
  return variables;
}

/** A value inside a comma-separated option of QEMU: a comma is written twice (qemu(1), -drive). */
export function optionText(text: string): string {
  return text.replaceAll(',', ',,');
}

/**
 * The arguments of `machineProgram` (qemu(1)). The first serial port is standard input and output, the machine
 * protocol (QMP) is descriptor 3, a connected socket.
 */
export function qemuArguments(machine: Machine): string[] {
  const writes = machine.scratchMedium ? 'snapshot=on' : 'readonly=on';
  const medium = `if=none,id=medium,format=raw,${writes},file=${optionText(machine.medium)}`;
  const sectors =
    machine.sectorSize === 512
      ? ''
      : `,logical_block_size=${machine.sectorSize},physical_block_size=${machine.sectorSize}`;
  const { machine: type, processor, screen, uefi, uefi32 }: MachineKind = machines[machine.architecture];
  const bits32 = machine.firmware === 'uefi32' ? uefi32 : undefined;
  const secure = checksSignatures(machine.firmware) || bits32 !== undefined;
  const code = bits32?.code ?? (secure ? (uefi.secureCode ?? uefi.code) : uefi.code);
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-name', 'relive'],
    ...[
      '-machine',
      secure ? `${type},smm=on` : type,
      '-cpu',
      machine.accelerator === 'kvm' ? 'host' : processor,
    ],
    ...['-accel', machine.accelerator === 'tcg' ? 'tcg,thread=multi' : 'kvm'],
    ...['-m', String(machine.memoryMib), '-smp', String(machine.cpus)],
    ...(machine.endOnRestart ? ['-no-reboot'] : []),
    ...['-chardev', 'stdio,id=console,signal=off', '-serial', 'chardev:console'],
    ...['-chardev', 'socket,id=monitor,fd=3', '-mon', 'chardev=monitor,mode=control'],
    ...['-device', screen, '-device', 'virtio-rng-pci'],
    ...(machine.firmware === 'bios'
      ? []
      : [
          // Only in system management mode may variables be written: else the guest could switch the checks off.
          ...(secure ? ['-global', 'driver=cfi.pflash01,property=secure,value=on'] : []),
          ...['-drive', `if=pflash,unit=0,format=raw,readonly=on,file=${code}`],
          ...['-drive', `if=pflash,unit=1,format=raw,file=${optionText(machine.variables ?? '')}`],
        ]),
    ...(machine.attach === 'disk'
      ? [
          ...['-drive', medium],
          // What sits on the root complex itself cannot be pulled out.
          ...(machine.pullable === true ? ['-device', 'pcie-root-port,id=medium-port,chassis=1,slot=1'] : []),
          '-device',
          `virtio-blk-pci,drive=medium,bootindex=0${machine.pullable === true ? `,bus=medium-port,id=${mediumDevice}` : ''}${sectors}`,
        ]
      : [
          ...['-drive', `${medium},media=cdrom`, '-device', 'virtio-scsi-pci'],
          ...['-device', 'scsi-cd,drive=medium,bootindex=0'],
        ]),
    ...machine.disks.flatMap((file, index) => [
      ...['-drive', `if=none,id=disk${index},format=raw,file=${optionText(file)}`],
      ...['-device', `virtio-blk-pci,drive=disk${index}`],
    ]),
    // No network at all rather than one without a cable: UEFI firmware would try to boot from it, for minutes.
    ...(machine.network === 'none'
      ? ['-nic', 'none']
      : ['-netdev', 'user,id=net', '-device', 'virtio-net-pci,netdev=net,romfile=']),
  ];
}
