import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { succeed } from '../fixtures/command.ts';
import { mountedStore } from '../fixtures/disk.ts';
import { MenuMachine } from '../fixtures/menu.ts';
import { type Picture, readPng } from '../fixtures/picture.ts';
import { builtSite } from '../fixtures/site.ts';
import { slowTests, temporaryDirectory } from '../support.ts';

/** How much of a screen has a colour: of points all over it. */
function share({ width, height, at }: Picture, colour: string): number {
  const points = Array.from({ length: 400 }, (_, index) =>
    at(Math.floor(((index % 20) * width) / 20), Math.floor((Math.floor(index / 20) * height) / 20)),
  );
  return points.filter((each) => each === colour).length / points.length;
}

/** The background of the page, as its style and as a screen have it: of the first image, and of the one after it. */
const pages = [
  { style: '#234', colour: '223344' },
  { style: '#432', colour: '443322' },
] as const;

/**
 * The kiosk of docs/tutorial.md on its medium: the page is on the screen, an update comes up on trial and becomes good, and
 * the way back is one. In emulation Firefox alone takes minutes.
 */
test.runIf(slowTests)(
  'the kiosk of the tutorial shows its page, is brought to another one, and back',
  async () => {
    const work = temporaryDirectory();
    const [site, disk] = [join(work, 'lab'), join(work, 'lab.img')];
    const { mirror } = await builtSite();
    await succeed(['init', site, '--profile', 'kiosk']);
    const change = (file: string, from: string | RegExp, to: string): void => {
      const text = readFileSync(join(site, file), 'utf8');
      const changed = text.replace(from, to);
      expect(changed).not.toBe(text);
      writeFileSync(join(site, file), changed);
    };
    change('relive.yaml', /^mirror: \S+/m, `mirror: ${mirror}`);
    const lines = 'version: 2\npersist:\n  - {path: /srv/sensors, volume: DATA}\n';
    change('profiles/kiosk.yaml', 'version: 1\n', lines);
    const newest = async (): Promise<string> => {
      const { last } = await succeed(['image', 'show', 'kiosk'], { site });
      return (last as unknown as { readonly manifest: { readonly image: string } }).manifest.image;
    };
    /** What the menu begins with. */
    const entry = async (): Promise<string> => {
      const { last } = await succeed(['medium', 'menu', disk], { site });
      const entries = last?.['entries'] as { readonly title: string }[] | undefined;
      return entries?.[0]?.title ?? '';
    };
    // Nothing starts from this CD, so BIOS goes on to the disk, which can be written to.
    const nothing = join(work, 'nothing');
    writeFileSync(nothing, Buffer.alloc(1024 * 1024));
    const started = async (seen: readonly string[], { colour }: (typeof pages)[number]): Promise<void> => {
      const machine = new MenuMachine(nothing, [disk], 2048, { cpus: 2 });
      onTestFinished(async () => await machine.end());
      for (const line of seen) await machine.seen(new RegExp(line), 400);
      const monitor = await machine.monitor();
      const file = join(work, 'screen.png');
      for (let left = 120; ; left -= 1) {
        await monitor.screenshot(file);
        const shown = share(readPng(readFileSync(file)), colour);
        if (shown > 0.9) break;
        if (left === 0) throw new Error(`the page is not there: ${shown} of the screen is ${colour}`);
        await sleep(5000);
      }
      await machine.powerDown(180);
    };

    await succeed(['keys', 'create'], { site });
    await succeed(['build', 'kiosk'], { site });
    const first = await newest();
    const create = ['medium', 'create', disk, '--size', '4G', '--volume', 'DATA:64M', '--image', 'kiosk'];
    await succeed(create, { site });
    await started([`${first}: trial 1 of 3`, `relive: healthy ${first}`], pages[0]);
    expect(await entry()).toMatch(new RegExp(`^${first}: `));

    change('overlays/kiosk/usr/local/share/kiosk/index.html', pages[0].style, pages[1].style);
    await succeed(['update', 'kiosk'], { site });
    const second = await newest();
    expect(second).not.toBe(first);
    await succeed(['medium', 'sync', disk], { site });
    expect(await entry()).toMatch(new RegExp(`^${second}, on trial: `));
    await started([`${second}: trial 1 of 3`, `relive: healthy ${second}`], pages[1]);
    expect(await entry()).toMatch(new RegExp(`^${second}: `));

    const through = mountedStore(disk, join(work, 'mnt'));
    await succeed(['medium', 'menu', join(work, 'mnt'), '--next', first], { site, through });
    await started([`relive: healthy ${first}`], pages[0]);
    // For one start.
    expect(await entry()).toMatch(new RegExp(`^${second}: `));
  },
  3_600_000,
);
