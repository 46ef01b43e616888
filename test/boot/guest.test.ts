import { spawn } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { exportIso, withBootableIso } from '../../src/medium/export.ts';
import { chooseAccelerator } from '../../src/vm/accel.ts';
import { type BootOptions, type BootResult, bootDefaults, bootImage } from '../../src/vm/boot.ts';
import { recordingContext } from '../fixtures/context.ts';
import { errorLike } from '../fixtures/expecting.ts';
import { type Behaviour, makeTinyStore, type TinyStore } from '../fixtures/guest.ts';
import { makeSigningKey, type SigningKey } from '../fixtures/signing.ts';

let key: SigningKey;
let otherKey: SigningKey;

beforeAll(() => {
  key = makeSigningKey('Test Images', 'rsa3072');
  otherKey = makeSigningKey('Somebody Else', 'rsa3072');
});
afterAll(() => {
  key.remove();
  otherKey.remove();
});

function storeOf(behaviour: Behaviour, signer: SigningKey | undefined): TinyStore {
  const store = makeTinyStore(behaviour, signer);
  onTestFinished(store.remove);
  return store;
}

const keysOf = ({ site, store }: TinyStore): { readonly store: string; readonly keys: string } => ({
  store,
  keys: join(site, 'keys'),
});

async function boot(tiny: TinyStore, options: Partial<BootOptions> = {}): Promise<BootResult> {
  const context = recordingContext();
  return await withBootableIso(
    async () => await Promise.resolve(keysOf(tiny)),
    tiny.image,
    context,
    async ({ file, image }) =>
      await bootImage(
        {
          ...bootDefaults,
          accelerator: 'tcg',
          memoryMib: 256,
          cpus: 1,
          powerOffSeconds: undefined,
          timeoutSeconds: 240,
          medium: file,
          image,
          ...options,
        },
        context,
      ),
  );
}

/** The command lines of the QEMU processes that have `text` in them. */
function qemuWith(text: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
        return /^\S*qemu-system/.test(line) && line.includes(text) ? [line] : [];
      } catch {
        // It has ended meanwhile.
        return [];
      }
    });
}

/** Every file below a directory, with what is in it as far as names tell. */
const namesBelow = (directory: string): string[] =>
  readdirSync(directory, { recursive: true, encoding: 'utf8' }).toSorted();

describe('a signed image', () => {
  test.each([
    ['bios', 'disk'],
    ['bios', 'cd'],
    ['uefi', 'disk'],
    ['uefi', 'cd'],
  ] as const)('boots by %s from a %s', async (firmware, attach) => {
    const tiny = storeOf('healthy', key);
    const before = namesBelow(tiny.store);
    const screenshot = join(tiny.site, 'screen.png');
    const log = join(tiny.site, 'console.log');
    const result = await boot(tiny, { firmware, attach, screenshot, settleSeconds: 1, log });
    // The tiny guest knows no power button.
    expect(result).toMatchObject({ healthy: true, image: tiny.image, accelerator: 'tcg', clean: false });
    expect(readFileSync(screenshot).subarray(1, 4).toString()).toBe('PNG');
    expect(readFileSync(log, 'utf8')).toContain(`relive: healthy ${tiny.image}`);
    expect(namesBelow(tiny.store)).toEqual([...before, 'isos'].toSorted());
  });
});

test('an image that wants no signatures boots without any', async () => {
  expect(await boot(storeOf('healthy', undefined))).toMatchObject({ healthy: true });
});

/** Changes one bit of a file of the image. */
function flip(tiny: TinyStore, name: string, at: number): void {
  const file = join(tiny.imageDirectory, name);
  const bytes = readFileSync(file);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  writeFileSync(file, bytes);
}

describe('GRUB refuses, and names the file', () => {
  const attacks: readonly (readonly [string, string, (tiny: TinyStore) => void])[] = [
    ['a changed byte of boot.cfg', 'boot.cfg', (tiny) => flip(tiny, 'boot.cfg', 20)],
    ['a changed byte of the kernel', 'vmlinuz', (tiny) => flip(tiny, 'vmlinuz', 4_000_000)],
    ['a changed byte of the initrd', 'initrd.img', (tiny) => flip(tiny, 'initrd.img', 1000)],
    ...['boot.cfg', 'vmlinuz', 'initrd.img'].map(
      (name): readonly [string, string, (tiny: TinyStore) => void] => [
        `a missing signature of ${name}`,
        name,
        (tiny) => rmSync(join(tiny.imageDirectory, `${name}.sig`)),
      ],
    ),
    [
      'signatures by another key',
      'boot.cfg',
      (tiny) => writeFileSync(join(tiny.site, 'keys/public.asc'), otherKey.armoured),
    ],
    [
      'a signature by another key on the initrd alone',
      'initrd.img',
      (tiny) => {
        const initrd = readFileSync(join(tiny.imageDirectory, 'initrd.img'));
        writeFileSync(join(tiny.imageDirectory, 'initrd.img.sig'), otherKey.detachSign(initrd, false));
      },
    ],
    [
      'the signature of another file',
      'vmlinuz',
      ({ imageDirectory }) =>
        copyFileSync(join(imageDirectory, 'initrd.img.sig'), join(imageDirectory, 'vmlinuz.sig')),
    ],
  ];
  test.each(attacks)('%s', async (_name, file, attack) => {
    const tiny = storeOf('healthy', key);
    attack(tiny);
    const log = join(tiny.site, 'console.log');
    await expect(boot(tiny, { log })).rejects.toMatchObject(
      errorLike('guest-failed', `GRUB refused /images/tiny/20261122.01/${file}`),
    );
    expect(readFileSync(log, 'utf8')).not.toContain('relive: healthy');
  });

  test('by UEFI as well', async () => {
    const tiny = storeOf('healthy', key);
    flip(tiny, 'initrd.img', 1000);
    await expect(boot(tiny, { firmware: 'uefi' })).rejects.toMatchObject(
      errorLike('guest-failed', 'GRUB refused /images/tiny/20261122.01/initrd.img'),
    );
  });
});

describe('a guest that does not come up', () => {
  const failures: readonly (readonly [Behaviour, string])[] = [
    ['unhealthy', 'it reports itself unhealthy: degraded, failed: apache2.service'],
    ['other-image', 'it calls itself somebody-20200101.01, not tiny-20261122.01'],
    ['panic', 'its kernel panicked: Attempted to kill init!'],
    ['initramfs', 'it stopped in the initramfs'],
    ['switch-off', 'it switched itself off or restarted'],
  ];
  test.each(failures)('%s', async (behaviour, message) => {
    await expect(boot(storeOf(behaviour, undefined))).rejects.toMatchObject(
      errorLike('guest-failed', message),
    );
  });

  test('and hangs: the last screen of its console is part of the error', async () => {
    const tiny = storeOf('hang', undefined);
    let seen = false;
    const failed = boot(tiny, {
      timeoutSeconds: 75,
      onLine: (line) => {
        seen ||= line.includes('waits for nothing');
      },
    });
    await expect(failed).rejects.toMatchObject(errorLike('guest-failed', 'it was not healthy within 75 s'));
    await expect(failed).rejects.toMatchObject(errorLike('guest-failed', 'the tiny guest waits for nothing'));
    expect(seen).toBe(true);
  });

  test('and QEMU itself cannot start', async () => {
    const tiny = storeOf('healthy', undefined);
    await expect(boot(tiny, { medium: join(tiny.site, 'nowhere.iso') })).rejects.toMatchObject(
      errorLike('guest-failed', 'nowhere.iso'),
    );
  });
});

describe('relive vm leaves nothing behind', () => {
  const cli = join(import.meta.dirname, '../../dist/cli.cjs');
  test.each(['SIGINT', 'SIGTERM', 'SIGKILL'] as const)('after %s', async (signal) => {
    const tiny = storeOf('hang', key);
    const scratch = join(tiny.site, 'scratch');
    mkdirSync(scratch);
    const child = spawn(
      process.execPath,
      [cli, 'vm', tiny.image, '--site', tiny.site, '--accel', 'tcg', '--firmware', 'uefi', '--console'],
      { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, TMPDIR: scratch, NO_COLOR: '1' } },
    );
    const ended = new Promise<number | null>((done) => child.once('exit', (status) => done(status)));
    for await (const line of createInterface({ input: child.stderr })) {
      if (line.includes('relive: loading')) break;
    }
    const mark = `/proc/${child.pid}/fd/`;
    expect(qemuWith(mark)).toHaveLength(1);
    child.kill(signal);
    expect(await ended).toBe(signal === 'SIGKILL' ? null : 130);
    await expect.poll(() => qemuWith(mark), { timeout: 20_000 }).toEqual([]);
    expect(namesBelow(scratch)).toEqual([]);
    expect(namesBelow(join(tiny.store, 'isos'))).toEqual([]);
  });

  test('after SIGKILL while the ISO is made', async () => {
    const tiny = storeOf('hang', key);
    // Long enough in xorriso to be killed there.
    writeFileSync(tiny.layer, Buffer.alloc(400 * 1024 * 1024));
    const isos = join(tiny.store, 'isos');
    mkdirSync(isos);
    const child = spawn(process.execPath, [cli, 'vm', tiny.image, '--site', tiny.site, '--accel', 'tcg'], {
      stdio: 'ignore',
    });
    const ended = new Promise<void>((done) => child.once('exit', () => done()));
    await expect
      .poll(() => namesBelow(isos).some((name) => name.endsWith('medium.iso')), {
        timeout: 60_000,
        interval: 5,
      })
      .toBe(true);
    child.kill('SIGKILL');
    await ended;
    await expect.poll(() => namesBelow(isos), { timeout: 20_000 }).toEqual([]);
  });
});

test('an exported ISO boots; it is used instead of a temporary one, and without a site', async () => {
  const tiny = storeOf('healthy-for-a-while', key);
  const { file } = await exportIso(keysOf(tiny), 'tiny', undefined, recordingContext());
  expect(file).toBe(join(tiny.store, 'isos', `${tiny.image}.iso`));
  const { mtimeMs } = statSync(file);
  let medium = '';
  await withBootableIso(
    async () => await Promise.resolve(keysOf(tiny)),
    'tiny',
    recordingContext(),
    async (iso) => {
      medium = await Promise.resolve(iso.file);
    },
  );
  expect(medium).toBe(file);
  expect(statSync(file).mtimeMs).toBe(mtimeMs);
  const child = spawn(
    process.execPath,
    [join(import.meta.dirname, '../../dist/cli.cjs'), 'vm', file, '--accel', 'tcg', '--json'],
    { stdio: ['ignore', 'pipe', 'inherit'], cwd: tmpdir() },
  );
  const lines: string[] = [];
  for await (const line of createInterface({ input: child.stdout })) lines.push(line);
  expect(JSON.parse(lines.at(-1) ?? '')).toMatchObject({
    event: 'result',
    ok: true,
    image: tiny.image,
    firmware: 'bios',
    accelerator: 'tcg',
    clean: true,
  });
});

test('auto takes KVM only where a guest runs under it', async () => {
  const context = recordingContext();
  const chosen = await chooseAccelerator('auto', context);
  expect(await boot(storeOf('healthy', undefined), { accelerator: 'auto' })).toMatchObject({
    accelerator: chosen,
  });
});
