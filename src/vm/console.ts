import { StringDecoder } from 'node:string_decoder';
import { Screen } from './screen.ts';

/** What a line of the guest's console says about how it is. */
export type Verdict =
  | { readonly state: 'healthy'; readonly image: string }
  | { readonly state: 'unhealthy'; readonly image: string; readonly reason: string }
  | { readonly state: 'failed'; readonly reason: string };

/** A line is cut here: a guest may print without end. */
const longestLine = 4096;

/** Lines by which a guest shows that it will not come up, and what they mean. */
const failures: readonly (readonly [RegExp, string])[] = [
  // UEFI firmware repeats on the serial line what GRUB prints there itself, sometimes in the same line.
  [/relive: refused: (\S+?)(?=relive: |\s|$)/, 'GRUB refused $1'],
  [
    /BdsDxe: failed to load .*Access Denied/,
    'its firmware refused the boot loader, which no key has signed that it knows',
  ],
  [
    /Verification failed: \(0x1A\) Security Violation/,
    'shim refused GRUB, which no key has signed that it knows: its MokManager can enrol RELIVE.CER of the EFI system partition',
  ],
  [/relive: stopped: (.*)/, 'it stopped: $1'],
  [/Kernel panic - not syncing: (.*)/, 'its kernel panicked: $1'],
  [/^\(initramfs\)|BusyBox v\S+ .*built-in shell/, 'it stopped in the initramfs'],
  [/Unable to find a (?:live file system|medium containing a live file system)/, 'it found no live system'],
  [
    /You are in (?:emergency|rescue) mode|Give root password for maintenance|Press Enter for maintenance/,
    'it stopped in emergency mode',
  ],
  [/^grub rescue>/, 'GRUB stopped in its rescue mode'],
  [/No bootable option or device was found|UEFI Interactive Shell/, 'its firmware found nothing to start'],
];

/**
 * What a line of the console says, or undefined for most. The health line is `relive: healthy IMAGE` or
 * `relive: unhealthy IMAGE: REASON`; the kernel may put its own message in front of it.
 */
export function verdictOf(line: string): Verdict | undefined {
  const healthy = /relive: healthy (\S+)/.exec(line);
  if (healthy?.[1] !== undefined) return { state: 'healthy', image: healthy[1] };
  const unhealthy = /relive: unhealthy (\S+): (.*)/.exec(line);
  if (unhealthy?.[1] !== undefined) {
    return { state: 'unhealthy', image: unhealthy[1], reason: (unhealthy[2] ?? '').trim() };
  }
  for (const [pattern, meaning] of failures) {
    const match = pattern.exec(line);
    if (match !== null) return { state: 'failed', reason: meaning.replace('$1', match[1] ?? '') };
  }
  return undefined;
}

/* eslint-disable no-control-regex -- these are the characters to find */
const otherLine = /\u001b\[[0-9;]*[HfABEFd]/g;
const sequence = /\u001b\[[0-?]*[ -/]*[@-~]|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)|\u001b[ -/]*[0-~]/g;
const control = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;
/* eslint-enable no-control-regex */

/**
 * Text without its escape sequences (ECMA-48: CSI, OSC and two-byte ones) and other control characters. One that moves
 * the cursor to another line ends the line, so that the cells of a menu do not run together.
 */
export function stripEscapes(text: string): string {
  return text.replaceAll(otherLine, '\n').replaceAll(sequence, '').replaceAll(control, '');
}

/**
 * Collects what a guest prints on its serial console: lines without escape sequences, as they are complete, and the
 * screen as a terminal would show it.
 */
export class Console {
  readonly #decoder = new StringDecoder('utf8');
  readonly #screen = new Screen();
  readonly #onLine: (line: string) => void;
  #rest = '';

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  /** Takes bytes as they come, cut anywhere. */
  push(bytes: Uint8Array): void {
    const text = this.#decoder.write(Buffer.from(bytes));
    this.#screen.write(text);
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#lines(line);
    // A prompt has no end of line, and a guest that prints without end must not fill our memory.
    if (/\(initramfs\) ?$|grub rescue> ?$/.test(this.#rest) || this.#rest.length > longestLine) {
      this.#lines(this.#rest);
      this.#rest = '';
    }
  }

  #lines(raw: string): void {
    for (const line of stripEscapes(raw).split('\n')) {
      const text = line.trimEnd().slice(0, longestLine);
      if (text !== '') this.#onLine(text);
    }
  }

  /** The lines of the last screen, without empty ones at its end. */
  screen(): readonly string[] {
    return this.#screen.lines();
  }
}
