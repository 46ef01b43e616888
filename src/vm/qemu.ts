import { ReliveError } from '../core/error.ts';
import { exists } from '../host/files.ts';
import type { Accelerator } from './accel.ts';

export type Firmware = 'bios' | 'uefi';

/** A virtual machine, and the medium it boots from. */
export interface Machine {
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
  /** A guest that restarts ends QEMU instead: a restart during a test is a failure, not another try. */
  readonly endOnRestart: boolean;
  /** The UEFI variables, which QEMU changes; only for `uefi`. */
  readonly variables: string | undefined;
}

const ovmf = {
  code: '/usr/share/OVMF/OVMF_CODE_4M.fd',
  variables: '/usr/share/OVMF/OVMF_VARS_4M.fd',
} as const;

/**
 * The template of UEFI variables, of which each guest gets a copy.
 * @throws ReliveError `tool-missing`
 */
export async function firmwareVariables(): Promise<string> {
  for (const file of [ovmf.code, ovmf.variables]) {
    if (await exists(file)) continue;
    throw new ReliveError('tool-missing', `UEFI firmware for guests is not installed: ${file}`, {
      hint: 'apt-get install ovmf, or boot by --firmware bios',
    });
  }
  return ovmf.variables;
}

/** A value inside a comma-separated option of QEMU: a comma is written twice (qemu(1), -drive). */
export function optionText(text: string): string {
  return text.replaceAll(',', ',,');
}

/**
 * The processor. Emulated without cmpxchg16b: with it Linux 6.12 panicked under QEMU 7.2 (Debian 12) in all of five boots
 * on two processors and in one of two on one, mostly in kmalloc right after that instruction, each time with garbage in
 * the flags register; without it in none of ten. That QEMU spoils the flags there is read from those dumps, not from
 * its source.
 */
function processor(accelerator: Accelerator): string {
  return accelerator === 'kvm' ? 'host' : 'qemu64,-cx16';
}

/**
 * The arguments of qemu-system-x86_64 (qemu(1)). The first serial port is standard input and output, the machine
 * protocol (QMP) is descriptor 3, a connected socket.
 */
export function qemuArguments(machine: Machine): string[] {
  const writes = machine.scratchMedium ? 'snapshot=on' : 'readonly=on';
  const medium = `if=none,id=medium,format=raw,${writes},file=${optionText(machine.medium)}`;
  const sectors =
    machine.sectorSize === 512
      ? ''
      : `,logical_block_size=${machine.sectorSize},physical_block_size=${machine.sectorSize}`;
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-name', 'relive'],
    ...['-machine', 'q35', '-cpu', processor(machine.accelerator)],
    ...['-accel', machine.accelerator === 'tcg' ? 'tcg,thread=multi' : 'kvm'],
    ...['-m', String(machine.memoryMib), '-smp', String(machine.cpus)],
    ...(machine.endOnRestart ? ['-no-reboot'] : []),
    ...['-chardev', 'stdio,id=console,signal=off', '-serial', 'chardev:console'],
    ...['-chardev', 'socket,id=monitor,fd=3', '-mon', 'chardev=monitor,mode=control'],
    ...['-device', 'VGA', '-device', 'virtio-rng-pci'],
    ...(machine.firmware === 'bios'
      ? []
      : [
          ...['-drive', `if=pflash,unit=0,format=raw,readonly=on,file=${ovmf.code}`],
          ...['-drive', `if=pflash,unit=1,format=raw,file=${optionText(machine.variables ?? '')}`],
        ]),
    ...(machine.attach === 'disk'
      ? ['-drive', medium, '-device', `virtio-blk-pci,drive=medium,bootindex=0${sectors}`]
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
