import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { addBox } from '../../fixtures/box.ts';
import { type CommandEnd, runCommand, stagesOf, startCommand, succeed } from '../../fixtures/command.ts';
import { freshSite, removeSite, type TestSite } from '../../fixtures/site.ts';
import { relive } from '../../support.ts';

let site: TestSite;

beforeAll(async () => {
  site = await freshSite({ cache: true });
});
afterAll(() => removeSite(site));

const stages = ['bootstrap', 'packages', 'files', 'configure'];

async function build(profile = 'box'): Promise<CommandEnd> {
  return await runCommand(['build', profile, '--offline'], { site: site.directory });
}

async function imageNames(profile = 'box'): Promise<string[]> {
  const { last } = await runCommand(['image', 'list'], { site: site.directory });
  const { images } = last as unknown as { images: readonly { name: string }[] };
  return images.map(({ name }) => name).filter((name) => name.startsWith(`${profile}-`));
}

/** How a build went with the stages of the system: `packages cached`. */
function systemStages(end: CommandEnd): string[] {
  return stagesOf(end).filter((line) => [...stages, 'live'].includes(line.split(' ')[0] ?? ''));
}

describe('two builds at once', () => {
  test('both succeed, with one image; a stage that both need is made by one, and the other waits for it', async () => {
    const home = join(site.cache, 'stages');
    const live = readdirSync(home).find((name) => name.startsWith('live-')) ?? '';
    rmSync(join(home, live), { recursive: true });
    const first = startCommand(['build', 'demo', '--offline'], { site: site.directory });
    await first.line(({ stage, state }) => stage === 'live' && state === 'start');
    const second = await build('demo');
    const ended = await first.ended;
    expect([ended.status, second.status]).toEqual([0, 0]);
    const warnings = second.lines.filter(({ event }) => event === 'warning');
    expect(warnings.map(({ message }) => message)).toContainEqual(
      expect.stringMatching(/^the stage live is in use by "relive build demo .*; waiting for it$/),
    );
    expect(systemStages(second).at(-1)).toBe('live cached');
    expect(second.last).toMatchObject({ unchanged: true, image: ended.last?.['image'] });
    expect(await imageNames('demo')).toEqual([ended.last?.['image']]);
  });
});

describe('a second build', () => {
  beforeAll(async () => {
    await addBox(site);
  });

  test('with nothing changed takes every stage from the cache and makes no image', async () => {
    const before = await imageNames();
    const end = await build();
    expect(end.status).toBe(0);
    expect(end.last).toMatchObject({ event: 'result', ok: true, unchanged: true, image: before[0] });
    expect(systemStages(end)).toEqual(stages.map((stage) => `${stage} cached`));
    expect(stagesOf(end).filter((line) => line.startsWith('pack '))).toEqual([]);
    expect(await imageNames()).toEqual(before);
    const { stdout } = await relive(['build', 'box', '--offline', '--site', site.directory]);
    expect(stdout).toContain(`nothing changed since ${before[0] ?? ''}`);
  });

  test('after a changed file of the overlay runs that stage and the later ones', async () => {
    const before = await imageNames();
    const issue = join(site.directory, 'overlays/demo/etc/issue');
    writeFileSync(issue, `${readFileSync(issue, 'utf8')}changed\n`);
    const end = await build();
    expect(end.status).toBe(0);
    expect(systemStages(end)).toEqual([
      'bootstrap cached',
      'packages cached',
      'files start',
      'configure start',
    ]);
    const next = String(end.last?.['image']);
    expect(await imageNames()).toEqual([next, ...before]);
    expect(before.every((name) => name < next)).toBe(true);
    await succeed(['image', 'verify'], { site: site.directory });
  });

  test('image diff names that file, and nothing else', async () => {
    const [next, before] = await imageNames();
    const page = join(site.directory, 'diff.html');
    const end = await runCommand(['image', 'diff', 'box', '--html', page], { site: site.directory });
    expect(end.status).toBe(1);
    expect(end.last).toMatchObject({
      ...{ event: 'result', ok: false, from: before, to: next, packages: [], units: [] },
      files: [{ path: 'etc/issue', kind: 'changed', aspects: ['content'] }],
    });
    const { facts } = end.last as unknown as { facts: { name: string }[] };
    expect(facts.map(({ name }) => name)).toEqual(expect.arrayContaining(['base layer', 'tree']));
    expect(readFileSync(page, 'utf8')).toContain('<td>/etc/issue</td>');
    const text = await relive(['image', 'diff', 'box', '--site', site.directory]);
    expect(text.stdout).toMatch(/^files:\n {2}\* \/etc\/issue {2}\(content; \d+ -> \d+ bytes\)\n$/m);
    const same = await runCommand(['image', 'diff', next ?? '', next ?? ''], { site: site.directory });
    expect(same.last).toMatchObject({ ok: true, facts: [], files: [] });
  });

  test('after a change of what is packed only packs', async () => {
    const profile = join(site.directory, 'profiles/box.yaml');
    writeFileSync(profile, readFileSync(profile, 'utf8').replace(/^version: \d+/m, 'version: 2'));
    const end = await build();
    expect(systemStages(end)).toEqual(stages.map((stage) => `${stage} cached`));
    expect(end.last).toMatchObject({ unchanged: false });
    const timings = end.last?.['timings'] as { stage: string; seconds: number; cached: boolean }[];
    expect(timings.filter(({ cached }) => cached).map(({ stage }) => stage)).toEqual(stages);
    expect(timings.map(({ stage }) => stage)).toEqual([...stages, 'pack', 'prove', 'seal', 'total']);
    const seconds = timings.map((each) => each.seconds);
    expect(seconds.at(-1)).toBeGreaterThanOrEqual(seconds.slice(0, -1).reduce((sum, each) => sum + each));
    const { last } = await runCommand(['image', 'show', 'box'], { site: site.directory });
    expect(last?.['manifest']).toMatchObject({ profile: { version: 2 } });
    expect(last?.['timings']).toEqual(timings);
  });

  test('a damaged layer of the same content is not published again', async () => {
    const [newest] = await imageNames();
    const { last } = await runCommand(['image', 'show', 'box'], { site: site.directory });
    const { manifest } = last as unknown as { manifest: { layers: { digest: string }[] } };
    const layer = join(site.store, 'live', `${manifest.layers[0]?.digest.slice(0, 16) ?? ''}.squashfs`);
    const good = readFileSync(layer);
    writeFileSync(layer, Buffer.alloc(good.length));
    const profile = join(site.directory, 'profiles/box.yaml');
    const text = readFileSync(profile, 'utf8');
    writeFileSync(profile, text.replace(/^version: \d+/m, 'version: 3'));
    const end = await build();
    expect(end.status).toBe(3);
    expect(end.last).toMatchObject({ code: 'corrupt', message: expect.stringContaining(layer) });
    expect((await imageNames())[0]).toBe(newest);
    // What the hint says: without the file a good one takes its place.
    rmSync(layer);
    expect((await build()).status).toBe(0);
    expect(readFileSync(layer).equals(good)).toBe(true);
  });
});

test('what a run that was cut off has left is removed', async () => {
  const leftovers = [
    join(site.cache, 'stages/live-0.tmp/tree'),
    join(site.cache, 'scratch-x1y2z3/x'),
    join(site.store, '.tmp/x'),
  ];
  for (const path of leftovers) mkdirSync(path, { recursive: true });
  const orphan = join(site.store, 'live/0123456789abcdef.squashfs');
  writeFileSync(orphan, 'of no image');
  const profile = join(site.directory, 'profiles/box.yaml');
  writeFileSync(profile, readFileSync(profile, 'utf8').replace(/^version: \d+/m, 'version: 4'));
  expect((await build()).status).toBe(0);
  for (const path of [...leftovers, orphan]) expect(() => readFileSync(path)).toThrow('ENOENT');
});
