import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type CommandEnd, runCommand, stagesOf, startCommand, succeed } from '../../fixtures/command.ts';
import { type BuiltSite, builtSite, freshSite, removeSite, type TestSite } from '../../fixtures/site.ts';
import { type SmallDisk, smallDisk } from '../../fixtures/small-disk.ts';

let built: BuiltSite;
let site: TestSite;

beforeEach(async () => {
  built = await builtSite();
  site = await freshSite({ cache: true });
});
afterEach(() => removeSite(site));

/** Has the next build make an image. */
function wantAnotherImage(): void {
  const file = join(site.directory, 'profiles/demo.yaml');
  writeFileSync(file, readFileSync(file, 'utf8').replace(/^version: 1$/m, 'version: 2'));
}

/** Builds, on a disk on which there is room enough until a stage starts. */
async function buildFilling(disk: SmallDisk, stage: string, left: number): Promise<CommandEnd> {
  const build = startCommand(['build', 'demo', '--offline'], { site: site.directory, through: disk.through });
  await build.line((line) => line['stage'] === stage && line['state'] === 'start');
  disk.fill(left);
  const end = await build.ended;
  disk.empty();
  return end;
}

function stageOf({ lines }: CommandEnd): unknown {
  return lines.findLast(({ event, state }) => event === 'stage' && state === 'start')?.['stage'];
}

const full = {
  event: 'error',
  code: 'disk-full',
  message: expect.stringContaining('no space left'),
  hint: expect.stringContaining('make room'),
};

/** More than a build asks for. */
const enough = 900;

describe('no room in the store', () => {
  test.each([
    ['pack', 20],
    ['seal', 115],
  ])('in the stage %s: an error that says so, and the store as it was', async (stage, room) => {
    const parts = [join(built.store, 'images'), join(built.store, 'live')];
    const disk = await smallDisk(site.store, enough, [...parts, join(built.store, '.lock')]);
    wantAnotherImage();
    const before = disk.content();
    const options = { site: site.directory, through: disk.through };
    const end = await buildFilling(disk, 'pack', room);
    expect([stageOf(end), end.status]).toEqual([stage, 3]);
    expect(end.last).toMatchObject(full);
    expect(end.last?.['message']).toContain(site.store);
    expect(disk.content()).toBe(before);
    await succeed(['image', 'verify'], options);
    // With too little from the beginning nothing is packed.
    disk.fill(100);
    const early = await runCommand(['build', 'demo', '--offline'], options);
    expect([stagesOf(early).filter((each) => each.endsWith('start')), early.status]).toEqual([[], 3]);
    expect(early.last).toMatchObject({ code: 'disk-full', message: expect.stringContaining('needs about') });
    expect(disk.content()).toBe(before);
    disk.empty();
    expect((await succeed(['build', 'demo', '--offline'], options)).last).toMatchObject({ unchanged: false });
  });
});

/** The cached layers of these stages. */
function layers(stages: readonly string[]): string[] {
  const home = join(built.cache, 'stages');
  const names = readdirSync(home).filter((name) => stages.includes(name.split('-')[0] ?? ''));
  return names.map((name) => join(home, name));
}

describe('no room in the cache', () => {
  test.each([
    ['bootstrap', 100, []],
    ['packages', 60, ['bootstrap']],
    ['live', 20, ['bootstrap', 'packages', 'files', 'configure']],
  ] as const)(
    'in the stage %s: an error that says so, and nothing half-made',
    async (stage, room, finished) => {
      const disk = await smallDisk(join(site.cache, 'stages'), enough, layers(finished));
      const before = disk.names();
      const end = await buildFilling(disk, stage, room);
      expect([stageOf(end), end.status]).toEqual([stage, 3]);
      expect(end.last).toMatchObject(full);
      expect(end.last?.['message']).toContain(site.cache);
      expect(disk.names()).toEqual(before);
    },
  );

  test('from the beginning: an error with the sum, before a stage is run', async () => {
    const disk = await smallDisk(site.cache, 100, []);
    const end = await runCommand(['build', 'demo', '--offline'], {
      site: site.directory,
      through: disk.through,
    });
    expect([stagesOf(end).filter((each) => each.endsWith('start')), end.status]).toEqual([[], 3]);
    expect(end.last).toMatchObject({
      code: 'disk-full',
      message: expect.stringMatching(
        /needs about \d+ MB in \S+, \d+ MB is free\n.*stages bootstrap, packages/,
      ),
    });
    expect(disk.names().filter((name) => !['.lock', 'stages'].includes(name))).toEqual([]);
  });

  test('for resolving the packages', async () => {
    rmSync(join(site.directory, 'locks'), { recursive: true });
    const disk = await smallDisk(site.cache, 20, []);
    const end = await runCommand(['build', 'demo', '--offline'], {
      site: site.directory,
      through: disk.through,
    });
    expect([stageOf(end), end.status]).toEqual(['resolve', 3]);
    expect(end.last).toMatchObject(full);
    expect(disk.names().filter((name) => name !== '.lock')).toEqual([]);
  });
});
