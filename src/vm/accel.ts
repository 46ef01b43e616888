import { isReliveError, ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { anonymousFile } from '../host/anonymous.ts';
import { exists } from '../host/files.ts';
import { run } from '../host/process.ts';

/** How the guest's processor runs: on the host's own (KVM) or emulated (TCG). */
export type Accelerator = 'kvm' | 'tcg';

/** What the tiny guest writes to QEMU's exit port; QEMU ends with status `2 * value + 1`. */
const exitValue = 0x10;

/**
 * A boot sector that counts down from two million and then writes to QEMU's exit port: firmware, a stretch of plain
 * instructions and a port access are what a host that emulates KVM badly is slow or stuck at.
 *
 *     mov ecx, 2000000
 *     1: loop 1b           (ecx)
 *     mov dx, 0xf4; mov al, 0x10; out dx, al
 *     cli; hlt
 */
export function probeSector(): Uint8Array {
  const sector = new Uint8Array(512);
  const count = 2_000_000;
  sector.set([
    ...[0x66, 0xb9, count & 0xff, (count >> 8) & 0xff, (count >> 16) & 0xff, (count >> 24) & 0xff],
    ...[0x67, 0xe2, 0xfd],
    ...[0xba, 0xf4, 0x00, 0xb0, exitValue, 0xee],
    ...[0xfa, 0xf4],
  ]);
  sector.set([0x55, 0xaa], 510);
  return sector;
}

/** Runs the tiny guest and gives the seconds it took, or undefined if it did not end as it should within the limit. */
async function probe(
  accelerator: Accelerator,
  limitSeconds: number,
  context: Context,
): Promise<number | undefined> {
  const sector = await anonymousFile(probeSector());
  const started = performance.now();
  try {
    const { status } = await run(
      'qemu-system-x86_64',
      [
        ...['-accel', accelerator, '-machine', 'pc', '-m', '16', '-nodefaults', '-display', 'none'],
        ...['-device', `isa-debug-exit,iobase=0xf4,iosize=4`, '-no-reboot'],
        ...['-drive', `file=${sector.path},format=raw,if=ide,snapshot=off`],
      ],
      // Any status: QEMU says 1 when it cannot use the accelerator.
      { signal: context.signal, timeoutSeconds: limitSeconds, accept: [1, 2 * exitValue + 1] },
    );
    return status === 2 * exitValue + 1 ? (performance.now() - started) / 1000 : undefined;
  } catch (error) {
    if (!isReliveError(error, 'timed-out', 'tool-failed')) throw error;
    return undefined;
  } finally {
    await sector.close();
  }
}

/**
 * Chooses the accelerator. `auto` does not trust /dev/kvm, which opens on hosts where guests then crawl or hang: a
 * tiny guest must be done under KVM in about the time that emulation takes for it here and now (a real KVM is as
 * fast; a host that emulates KVM takes ten times as long). Nothing is remembered: hosts move.
 * @throws ReliveError `host-unable` when `kvm` is wanted and the tiny guest does not run; `tool-missing`
 */
export async function chooseAccelerator(
  wanted: Accelerator | 'auto',
  context: Context,
): Promise<Accelerator> {
  if (wanted === 'tcg') return 'tcg';
  const present = await exists('/dev/kvm');
  if (wanted === 'kvm') {
    if (present && (await probe('kvm', 30, context)) !== undefined) return 'kvm';
    throw new ReliveError(
      'host-unable',
      present ? 'KVM does not run a guest here' : 'this host has no KVM: /dev/kvm is missing',
      { hint: '--accel tcg emulates the processor: slower, but it works everywhere' },
    );
  }
  if (!present) return 'tcg';
  const emulated = await probe('tcg', 30, context);
  if (emulated === undefined) return 'tcg';
  return (await probe('kvm', kvmLimit(emulated), context)) === undefined ? 'tcg' : 'kvm';
}

/** The seconds that KVM may take for what emulation did in `emulated` seconds. */
export function kvmLimit(emulated: number): number {
  return 2 * emulated + 0.5;
}
