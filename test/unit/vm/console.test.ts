import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Console, stripEscapes, verdictOf } from '../../../src/vm/console.ts';
import { Screen } from '../../../src/vm/screen.ts';

const esc = '\u001b';

function pushAll(bytes: Uint8Array, size: number): string[] {
  const lines: string[] = [];
  const guest = new Console((line) => lines.push(line));
  for (let at = 0; at < bytes.length; at += size) guest.push(bytes.subarray(at, at + size));
  return lines;
}

function screenOf(text: string): readonly string[] {
  const screen = new Screen();
  screen.write(text);
  return screen.lines();
}

describe('a line of the console', () => {
  test('is healthy, also behind a message of the kernel', () => {
    const healthy = { state: 'healthy', image: 'demo-20261122.01' };
    expect(verdictOf('relive: healthy demo-20261122.01')).toEqual(healthy);
    expect(verdictOf('[   12.345678] usb 1-1: new device relive: healthy demo-20261122.01')).toEqual(healthy);
  });

  test('is unhealthy, with the reason', () => {
    expect(verdictOf('relive: unhealthy demo-20261122.01: degraded, failed: a.service ')).toEqual({
      state: 'unhealthy',
      image: 'demo-20261122.01',
      reason: 'degraded, failed: a.service',
    });
  });

  test.each([
    ['relive: refused: /images/demo/1/vmlinuz', 'GRUB refused /images/demo/1/vmlinuz'],
    ['relive: refused: /a/vmlinuzrelive: refused: /a/vmlinuz', 'GRUB refused /a/vmlinuz'],
    ['relive: stopped: live/a.squashfs is missing', 'it stopped: live/a.squashfs is missing'],
    ['[    3.9] Kernel panic - not syncing: Fatal exception', 'its kernel panicked: Fatal exception'],
    ['(initramfs) ', 'it stopped in the initramfs'],
    ['BusyBox v1.37.0 (Debian 1:1.37.0-6) built-in shell (ash)', 'it stopped in the initramfs'],
    ['Unable to find a medium containing a live file system', 'it found no live system'],
    ['You are in emergency mode. After logging in, type', 'it stopped in emergency mode'],
    ['grub rescue> ', 'GRUB stopped in its rescue mode'],
    ['BdsDxe: No bootable option or device was found.', 'its firmware found nothing to start'],
  ])('tells a failure: %s', (line, reason) => {
    expect(verdictOf(line)).toEqual({ state: 'failed', reason });
  });

  test.each([
    'Linux version 6.12.107+deb13-cloud-amd64',
    'Kernel command line: boot=live relive.image=demo-20261122.01 panic=10',
    'relive: loading /images/demo/20261122.01/vmlinuz',
    'Starting relive-health.service - Report whether the image came up...',
    'demo login: ',
  ])('says nothing: %s', (line) => {
    expect(verdictOf(line)).toBeUndefined();
  });
});

describe('escape sequences', () => {
  test('are taken out: colours, titles, modes, character sets', () => {
    expect(
      stripEscapes(`[${esc}[0;32m  OK  ${esc}[0m] Started ${esc}]0;title\u0007x${esc}(B${esc}[?7l.`),
    ).toBe('[  OK  ] Started x.');
  });

  test('that move to another line end the line', () => {
    expect(stripEscapes(`one${esc}[5;3Htwo${esc}[Bthree`)).toBe('one\ntwo\nthree');
  });

  test('leave no control character but the line end, whatever comes', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        // eslint-disable-next-line no-control-regex -- these are the characters to find
        expect(stripEscapes(text)).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/);
      }),
    );
  });
});

describe('the console', () => {
  test('gives the same lines however the bytes are cut', () => {
    const bytes = Buffer.from(`a\r\n${esc}[1mZürich${esc}[0m\r\n\r\nrelive: healthy x-1\r\n`);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 40 }), (size) => {
        expect(pushAll(bytes, size)).toEqual(['a', 'Zürich', 'relive: healthy x-1']);
      }),
    );
  });

  test('gives a prompt without a line end, and not before', () => {
    expect(pushAll(Buffer.from('one\n(initramfs'), 3)).toEqual(['one']);
    expect(pushAll(Buffer.from('one\n(initramfs) '), 100)).toEqual(['one', '(initramfs)']);
  });

  test('does not collect an endless line', () => {
    const lines = pushAll(Buffer.alloc(1_000_000, 'x'), 1000);
    expect(lines.length).toBeGreaterThan(100);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(4096);
  });
});

describe('the screen', () => {
  test('shows lines, and scrolls', () => {
    expect(screenOf('one\r\ntwo\r\n')).toEqual(['one', 'two']);
    const many = Array.from({ length: 40 }, (_, index) => `line ${index}`);
    expect(screenOf(many.join('\r\n'))).toEqual(many.slice(-25));
  });

  test('wraps after 80 columns', () => {
    expect(screenOf('x'.repeat(85))).toEqual(['x'.repeat(80), 'xxxxx']);
  });

  test('follows the cursor and clears', () => {
    expect(screenOf(`old\r\nold${esc}[2J${esc}[HGRUB${esc}[3;5Hentry`)).toEqual(['GRUB', '', '    entry']);
    expect(screenOf(`12345\r${esc}[2C${esc}[K`)).toEqual(['12']);
    expect(screenOf('ab\b\bx')).toEqual(['xb']);
    expect(screenOf(`a${esc}cb`)).toEqual(['b']);
    expect(screenOf(`a\r\nb\r\nc${esc}[2;1H${esc}[J`)).toEqual(['a']);
    expect(screenOf(`a\tb${esc}[1;31mc`)).toEqual(['a       bc']);
  });

  test('survives anything, within its size', () => {
    const piece = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.constantFrom(`${esc}[`, `${esc}]`, '999', ';', 'H', 'J', 'K', 'A', 'D', '\n', '\b', esc),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 60 }), (pieces) => {
        const lines = screenOf(pieces.join(''));
        expect(lines.length).toBeLessThanOrEqual(25);
        for (const line of lines) expect(Array.from(line).length).toBeLessThanOrEqual(80);
      }),
    );
  });
});
