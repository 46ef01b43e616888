import { execFileSync } from 'node:child_process';
import { chmodSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { sha256 } from '../../../src/host/files.ts';
import { findTarget, withMedium } from '../../../src/medium/target.ts';
import { runCommand, succeed } from '../../fixtures/command.ts';
import { recordingContext } from '../../fixtures/context.ts';
import { addTinyImage, makeTinyStore, type TinyStore } from '../../fixtures/guest.ts';
import { throughNobody } from '../../fixtures/nobody.ts';
import { makeSigningKey, type SigningKey } from '../../fixtures/signing.ts';
import { temporaryDirectory } from '../../support.ts';

let key: SigningKey;
let tiny: TinyStore;
const newer = 'tiny-20261122.02';

beforeAll(() => {
  key = makeSigningKey('Test Images', 'rsa3072');
  tiny = makeTinyStore('healthy', key);
  addTinyImage(tiny.site, 'healthy', key, '20261122.02', 'another layer\n');
});
afterAll(() => {
  tiny.remove();
  key.remove();
});

/** Puts files of this host onto the store of a medium, by debugfs(8). */
async function change(disk: string, commands: readonly string[]): Promise<void> {
  const context = recordingContext();
  const target = await findTarget(disk, false, context);
  const offset = await withMedium(target, 'read', ({ layout }) => Promise.resolve(layout.store.offset));
  execFileSync('debugfs', ['-w', `${disk}?offset=${offset}`], {
    input: `${commands.join('\n')}\n`,
    stdio: ['pipe', 'ignore', 'pipe'],
  });
}

const titles = (last: unknown): string[] =>
  (last as { entries: { title: string }[] }).entries.map(({ title }) => title);

test('the menu of a medium, by whoever may read it; what is damaged has its reason, what leads to the host is nothing', async () => {
  const { site } = tiny;
  const work = temporaryDirectory();
  const disk = join(work, 'medium.img');
  await succeed(['medium', 'create', disk, '--size', '512M', '--image', `${tiny.image},${newer}`], { site });
  const good = await runCommand(['medium', 'menu', disk], { site });
  expect(good).toMatchObject({ status: 0, last: { check: 'signature' } });
  expect(titles(good.last)).toEqual([
    expect.stringMatching(new RegExp(`^${newer}, on trial: `)),
    expect.stringMatching(new RegExp(`^ {2}the one before: ${tiny.image}: `)),
    '  tiny: all images, other ways to start',
  ]);

  const kernel = join(work, 'kernel');
  writeFileSync(kernel, `${readFileSync(join(tiny.imageDirectory, 'vmlinuz'), 'latin1')}.`, 'latin1');
  writeFileSync(join(work, 'iso'), '');
  const [at, other] = ['/images/tiny/20261122.01', '/images/tiny/20261122.02'];
  await change(disk, [
    ...[`rm ${at}/vmlinuz`, `write ${kernel} ${at}/vmlinuz`],
    ...[`rm ${other}/boot.cfg.sig`, `symlink ${other}/boot.cfg.sig /etc/passwd`],
    ...['mkdir /isos', `write ${join(work, 'iso')} /isos/other.iso`],
  ]);
  chmodSync(work, 0o755);
  chmodSync(disk, 0o444);
  const before = sha256(readFileSync(disk));
  execFileSync('chmod', ['-R', 'a+rX', site]);
  const { status, last, lines } = await runCommand(['medium', 'menu', disk], {
    site,
    through: throughNobody,
  });
  expect(status).toBe(1);
  expect(last).toMatchObject({
    entries: [
      { image: tiny.image, default: true, damaged: `${at}/vmlinuz`, reason: expect.stringContaining('bad') },
      {},
      { image: newer, refused: `${other}/boot.cfg`, reason: 'it has no signature', default: false },
      { title: 'ISO files' },
    ],
  });
  expect(lines.filter(({ event }) => event === 'finding')).toHaveLength(2);
  expect(sha256(readFileSync(disk))).toBe(before);
});

test('the menu of a store by checksums; what is no medium is said to be none', async () => {
  const { site } = tiny;
  const store = join(temporaryDirectory(), 'store');
  execFileSync('cp', ['-r', tiny.store, store]);
  const initrd = join(store, 'images/tiny/20261122.02/initrd.img');
  writeFileSync(initrd, 'x');
  const { status, last } = await runCommand(['medium', 'menu', store, '--check', 'checksum'], { site });
  expect(status).toBe(1);
  expect(last).toMatchObject({
    entries: [
      {
        image: newer,
        damaged: '/images/tiny/20261122.02/boot.sha256',
        reason: 'initrd.img has another checksum',
      },
      {},
      {},
    ],
  });
  const file = join(dirname(store), 'no-medium');
  writeFileSync(file, 'x'.repeat(65_536));
  expect(await runCommand(['medium', 'menu', file], { site })).toMatchObject({
    status: 2,
    last: { message: expect.stringContaining('is no medium') },
  });
  expect(statSync(file).size).toBe(65_536);
});
