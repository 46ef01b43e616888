import { expect, test } from 'vitest';
import { formatManifest } from '../../../src/image/manifest.ts';
import { kexecCommandLine } from '../../../src/live/reboot.ts';
import { requireSameKernel } from '../../../src/live/switch.ts';
import { exampleManifest } from '../image/example.ts';

const image = { manifest: exampleManifest, manifestText: formatManifest(exampleManifest) };

test('an image that came up gets the command line of its boot.cfg, and the time', () => {
  const words = kexecCommandLine(image, 'boot=live quiet', undefined, 1234).split(' ');
  expect(words).toContain('relive.image=demo-20261122.01');
  expect(words.find((word) => word.startsWith('relive.manifest=sha256:'))).toHaveLength(87);
  expect(words.at(-1)).toBe('relive.interrupted=kexec:1234');
  expect(words.join(' ')).not.toMatch(/relive\.(trial|restart|ram)|panic|findiso/);
});

test('a trial is told, and to restart where there is another image to go back to', () => {
  const trial = { uuid: '1234-ABCD', back: true };
  expect(kexecCommandLine(image, '', trial, 1)).toContain(' relive.trial=1234-ABCD relive.restart panic=30 ');
  expect(kexecCommandLine(image, '', { ...trial, back: false }, 1)).not.toMatch(/relive\.restart|panic/);
});

test('where it runs from, and the ISO file that it lies in, are those of GRUB', () => {
  const manifest = { ...exampleManifest, boot: { ...exampleManifest.boot, ram: 'layers' as const } };
  const line = kexecCommandLine({ ...image, manifest }, 'quiet findiso=/isos/a.iso', undefined, 1);
  expect(line).toContain(' relive.ram=layers findiso=/isos/a.iso ');
});

test('a switch is refused to another kernel, of another version or another build', () => {
  const stored = {
    name: exampleManifest.image,
    profile: 'demo',
    version: exampleManifest.version,
    directory: '/nonexistent',
  };
  const to = { image: stored, manifest: exampleManifest };
  const running = { manifest: exampleManifest };
  const { version, digest } = exampleManifest.kernel;
  expect(() => requireSameKernel(to, running, version)).not.toThrow();
  expect(() => requireSameKernel(to, running, '6.12.1')).toThrow(/has another kernel/);
  const kernel = { ...exampleManifest.kernel, digest: digest.replaceAll('3', 'f') };
  expect(() => requireSameKernel(to, { manifest: { ...exampleManifest, kernel } }, version)).toThrow(
    /has another kernel/,
  );
});
