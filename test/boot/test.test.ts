import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { type CommandEnd, runCommand, succeed } from '../fixtures/command.ts';
import { type Behaviour, makeTinyStore } from '../fixtures/guest.ts';
import { makeSigningKey, type SigningKey } from '../fixtures/signing.ts';
import { freshSite, removeSite } from '../fixtures/site.ts';

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

test('an update that does not come up is not published, and stays with its consoles until one does', async () => {
  const site = await freshSite({ cache: true, store: true });
  onTestFinished(() => removeSite(site));
  const there = { site: site.directory };
  const list = async (...words: readonly string[]): Promise<Record<string, { name: string }[]>> => {
    const { last } = await succeed(['image', 'list', ...words], there);
    return last as unknown as Record<string, { name: string }[]>;
  };
  const { images: before } = await list();
  // What the system forgets is in its initramfs only: nothing but a boot shows it.
  const hooks = join(site.directory, 'overlays/demo/etc/initramfs-tools/hooks');
  mkdirSync(hooks, { recursive: true });
  const text = '#!/bin/sh\n[ "$1" = prereqs ] || find "$DESTDIR" -name dmsetup -delete\n';
  writeFileSync(join(hooks, 'zz-without'), text, { mode: 0o755 });
  const words = ['update', 'demo', '--offline'];
  const failed = await runCommand(words, there);
  expect([failed.status, failed.last?.['code']]).toEqual([3, 'guest-failed']);
  expect(failed.last?.['message']).toMatch(/bios: failed .*: it stopped: dm-verity refuses live\//);
  expect((await list())['images']).toEqual(before);
  const { candidates = [] } = await list('--candidates');
  expect(candidates).toHaveLength(1);
  const candidate = join(site.store, 'candidates', candidates[0]?.name ?? '');
  for (const firmware of ['bios', 'uefi']) {
    expect(readFileSync(join(candidate, `${firmware}.log`), 'utf8')).toContain('relive: stopped: dm-verity');
  }

  rmSync(hooks, { recursive: true });
  writeFileSync(join(hooks, '../mended'), '');
  const { last } = await succeed(words, there);
  expect(last).toMatchObject({
    ...{ kind: 'incremental', unchanged: false },
    test: [{ firmware: 'bios' }, { firmware: 'uefi' }],
  });
  expect((await list())['images']?.map(({ name }) => name)).toContain(last?.['image']);
  expect((await list('--candidates'))['candidates']).toEqual([]);
  expect(existsSync(candidate)).toBe(false);
});
