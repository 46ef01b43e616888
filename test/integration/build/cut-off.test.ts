import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sha256 } from '../../../src/host/files.ts';
import { layerFile, type Manifest, verityFile } from '../../../src/image/manifest.ts';
import { type CommandEnd, runCommand, stagesOf, startCommand, succeed } from '../../fixtures/command.ts';
import { leftOf, namespaceOf } from '../../fixtures/processes.ts';
import { type BuiltSite, builtSite, freshSite, removeSite, type TestSite } from '../../fixtures/site.ts';

let built: BuiltSite;
/** Begins with nothing; each run goes on from where the one before was cut off. */
let site: TestSite;
/** The stages of the system that a run has finished. */
const finished = new Set<string>();

beforeAll(async () => {
  built = await builtSite();
  site = await freshSite();
});
afterAll(() => removeSite(site));

/** Every file of the store with its content, save the lock and what an unfinished image is made in. */
function storeContent(): Map<string, string> {
  const content = new Map<string, string>();
  for (const name of ['images', 'live']) {
    const entries = readEntries(join(site.store, name));
    for (const path of entries) content.set(path.slice(site.store.length), sha256(readFileSync(path)));
  }
  return content;
}

function readEntries(directory: string): string[] {
  try {
    const entries = readdirSync(directory, { recursive: true, withFileTypes: true });
    return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  } catch {
    // Nothing was published yet.
    return [];
  }
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

const cached = ['bootstrap', 'packages', 'files', 'configure', 'live', 'settle'] as const;

/**
 * Has the next build run a stage that was faster than the last signal, and make an image. What the runs before have left
 * otherwise stays.
 */
function ahead(stage: string): void {
  const from = (cached as readonly string[]).indexOf(stage);
  const home = join(site.cache, 'stages');
  for (const again of from === -1 ? [] : cached.slice(from)) {
    finished.delete(again);
    const layers = namesIn(home).filter((name) => name.startsWith(`${again}-`) && !name.endsWith('.tmp'));
    for (const name of layers) rmSync(join(home, name), { recursive: true });
  }
  if (namesIn(join(site.store, 'images')).length > 0) wantAnotherImage();
}

/** What an earlier run has finished is not done again. */
function remember(end: CommandEnd): void {
  const states = stagesOf(end);
  const again = [...finished].filter((stage) => states.includes(`${stage} start`));
  expect(again).toEqual([]);
  for (const { event, stage, state } of end.lines) {
    if (event !== 'stage' || state !== 'done') continue;
    if ((cached as readonly unknown[]).includes(stage)) finished.add(String(stage));
  }
}

/** Has the next build make an image although nothing of the system changes. */
function wantAnotherImage(): void {
  const file = join(site.directory, 'profiles/demo.yaml');
  const text = readFileSync(file, 'utf8');
  writeFileSync(
    file,
    text.replace(/^version: (\d+)/m, (_, version: string) => `version: ${Number(version) + 1}`),
  );
}

/** Starts a build and sends it a signal at some moment of a stage. */
async function cutOff(
  stage: string,
  signal: 'SIGINT' | 'SIGKILL',
  milliseconds: number,
): Promise<CommandEnd & { readonly namespace: string }> {
  const build = startCommand(['build', 'demo', '--offline'], { site: site.directory });
  const line = await build.line((each) => each['stage'] === stage && each['state'] === 'start');
  if (line === undefined) throw new Error(`no stage ${stage}: ${JSON.stringify(await build.ended)}`);
  const namespace = namespaceOf(build.child.pid ?? 0) ?? 'none';
  await setTimeout(milliseconds);
  build.child.kill(signal);
  return { ...(await build.ended), namespace };
}

/** Each stage, and how long into it it may be cut off. */
const stages = [
  ['bootstrap', 5000],
  ['packages', 7000],
  ['configure', 1500],
  ['live', 5000],
  ['pack', 2500],
  ['prove', 1500],
  ['seal', 400],
] as const;

const orderly = { temporary: [], scratch: [], halfMade: [] };

describe.each(stages)('cut off in the stage %s', (stage, longest) => {
  test.each(['SIGINT', 'SIGKILL'] as const)('by %s: nothing is left, and nothing is lost', async (signal) => {
    ahead(stage);
    const moment = Math.floor(Math.random() * longest);
    const before = storeContent();
    const end = await cutOff(stage, signal, moment);
    const left = await leftOf(site.directory, new Set([end.namespace]));
    remember(end);
    const after = storeContent();
    const added = [...after.keys()].filter((path) => !before.has(path));
    // The moment stands here for whoever looks into a failure.
    expect({ moment, left }).toEqual({ moment, left: [] });
    // It was faster.
    if (end.status === 0) return;
    expect(end.status).toBe(signal === 'SIGINT' ? 130 : 137);
    expect([...before].filter(([path, digest]) => after.get(path) !== digest)).toEqual([]);
    const images = added.filter((path) => path.startsWith('/images/'));
    if (signal === 'SIGKILL' && images.length > 0) {
      // Killed between publishing it and its last word.
      await succeed(['image', 'verify', 'demo'], { site: site.directory });
      return;
    }
    expect(images).toEqual([]);
    if (signal === 'SIGKILL') return;
    expect(end.last).toMatchObject({ event: 'error', code: 'interrupted' });
    expect(end.last?.['hint']).toContain('goes on from there');
    expect(added).toEqual([]);
    expect({
      temporary: namesIn(site.store).filter((name) => name.startsWith('.tmp')),
      scratch: namesIn(site.cache).filter((name) => name.startsWith('scratch')),
      halfMade: namesIn(join(site.cache, 'stages')).filter((name) => name.endsWith('.tmp')),
    }).toEqual(orderly);
  });
});

test('then a build goes on to the end: the image is what it would have been', async () => {
  const end = await runCommand(['build', 'demo', '--offline'], { site: site.directory });
  remember(end);
  expect(end.status).toBe(0);
  expect(stagesOf(end)).toEqual(
    expect.arrayContaining(['bootstrap cached', 'packages cached', 'configure cached']),
  );
  const { last } = await runCommand(['image', 'show', 'demo'], { site: site.directory });
  const { manifest } = last as unknown as { manifest: Manifest };
  expect(manifest.layers).toEqual(built.manifest.layers);
  expect([manifest.tree, manifest.initrd]).toEqual([built.manifest.tree, built.manifest.initrd]);
  await succeed(['image', 'verify'], { site: site.directory });
  const { lines } = await runCommand(['image', 'list'], { site: site.directory });
  const known = new Set(JSON.stringify(lines).match(/demo-\d{8}\.\d{2}/g));
  const files = new Set(built.manifest.layers.flatMap((layer) => [layerFile(layer), verityFile(layer)]));
  const strangers = namesIn(join(site.store, 'live')).filter(
    (name) => !files.has(name) && !known.has(name.replace(/\.module$/, '')),
  );
  expect(strangers).toEqual([]);
  expect(namesIn(site.store).toSorted()).toEqual(['.lock', 'images', 'live']);
});
