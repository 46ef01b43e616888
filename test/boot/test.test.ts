import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { type CommandEnd, runCommand } from '../fixtures/command.ts';
import { type Behaviour, makeTinyStore } from '../fixtures/guest.ts';
import { makeSigningKey, type SigningKey } from '../fixtures/signing.ts';

let key: SigningKey;

beforeAll(() => {
  key = makeSigningKey('Test Images', 'rsa3072');
});
afterAll(() => key.remove());

interface Run {
  readonly firmware: string;
  readonly passed: boolean;
  readonly reason?: string;
  readonly log: string;
}

async function imageTest(
  behaviour: Behaviour,
  ...words: readonly string[]
): Promise<CommandEnd & { readonly runs: readonly Run[] }> {
  const tiny = makeTinyStore(behaviour, key);
  onTestFinished(tiny.remove);
  const end = await runCommand(['image', 'test', 'tiny', '--accel', 'tcg', '--memory', '256', ...words], {
    site: tiny.site,
  });
  // The store is what it was: no ISO is left in it.
  expect(existsSync(join(tiny.store, 'isos', `${tiny.image}.iso`))).toBe(false);
  return { ...end, runs: (end.last?.['runs'] ?? []) as readonly Run[] };
}

test('an image that comes up by each firmware passes', async () => {
  const { status, last, runs } = await imageTest('healthy-for-a-while');
  expect([status, last?.['passed']]).toEqual([0, true]);
  expect(runs.map(({ firmware, passed }) => [firmware, passed])).toEqual([
    ['bios', true],
    ['uefi', true],
  ]);
  for (const { log } of runs) expect(readFileSync(log, 'utf8')).toContain('relive: healthy tiny-');
});

test('one that reports itself unhealthy does not: its last lines, and where all of them are', async () => {
  const { status, last, runs } = await imageTest('unhealthy', '--firmware', 'bios');
  expect([status, last?.['passed'], runs.length]).toEqual([1, false, 1]);
  expect(runs[0]?.reason).toContain('degraded, failed: apache2.service');
  expect(readFileSync(runs[0]?.log ?? '', 'utf8')).toContain('relive: unhealthy');
});

test("one without relive's script in its initramfs is not even started", async () => {
  const { status, last, runs } = await imageTest('no-script');
  expect([status, last?.['passed'], runs]).toEqual([1, false, []]);
  expect(last?.['fault']).toContain('nothing of what it starts is checked');
});

test('one that hangs has until the time limit', async () => {
  const { status, runs } = await imageTest('hang', '--firmware', 'bios', '--timeout', '5');
  expect(status).toBe(1);
  expect(runs[0]?.reason).toContain('was not healthy within 5 s');
});
