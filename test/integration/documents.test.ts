import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runCommand } from '../fixtures/command.ts';
import { documentedCalls } from '../fixtures/documents.ts';
import { freshSite, removeSite, type TestSite } from '../fixtures/site.ts';

/** Commands whose calls in the documents are only read (test/unit/docs/commands.test.ts), and why they are not run here. */
const notRun: Readonly<Record<string, string>> = {
  init: 'makes a site of a profile that has other packages than the mirror: test/integration/commands/init.test.ts',
  build: 'builds: test/integration/build',
  update: 'builds: test/integration/image/update.test.ts',
  refresh: 'builds: test/integration/refresh.test.ts',
  lock: 'asks the network; test/integration/mirror/closure.test.ts',
  vm: 'boots: test/boot',
  serve: 'serves until it is stopped: test/integration/serve.test.ts',
  'image test': 'boots: test/boot/test.test.ts',
  'image diff': 'wants two images: test/integration/image/update.test.ts',
  'image flatten': 'wants a stack: test/integration/image/flatten.test.ts',
  'image compare': 'packs a system many times: test/integration/image/compression.test.ts',
  'image remove': 'there is one image, which the others need: test/integration/image/prune.test.ts',
  'medium create': 'wants a disk, or minutes: test/integration/medium/disk.test.ts',
  'medium sync': 'wants a disk, or minutes: test/integration/medium/disk.test.ts',
  'medium grow': 'wants a disk, or minutes: test/integration/medium/disk.test.ts',
  'medium verify': 'wants a disk, or minutes: test/integration/medium/disk.test.ts',
  'medium menu': 'wants a medium: test/integration/medium/menu.test.ts',
  'mirror sync': 'asks the network: test/integration/mirror/sync.test.ts',
  'mirror repair': 'asks the network: test/integration/mirror/verify.test.ts',
  'mirror prune': 'the mirror is that of all tests: test/integration/mirror/closure.test.ts',
  'mirror snapshot': 'the mirror is that of all tests: test/integration/mirror/clients.test.ts',
  'mirror serve': 'serves until it is stopped: test/integration/mirror/clients.test.ts',
  'live status': 'wants a system that an image has started: test/integration/live',
  'live plan': 'wants a system that an image has started: test/integration/live',
  'live apply': 'wants a system that an image has started: test/integration/live',
  'live undo': 'wants a system that an image has started: test/integration/live',
  'live switch': 'wants a system that an image has started: test/boot/live.test.ts',
  'live reboot': 'wants a system that an image has started: test/boot/live.test.ts',
  'live pull': 'wants a system that an image has started: test/integration/serve.test.ts',
  'live persist': 'wants a system that an image has started: test/boot/live-data.test.ts',
};

/** Options that make a call of a command that is run one that is not. */
const notWith = /^--(?:oci|tar|since|token|replace)$/;

let site: TestSite;
let image: string;

beforeAll(async () => {
  site = await freshSite({ store: true });
  const { last } = await runCommand(['image', 'show', 'demo'], { site: site.directory });
  image = (last as unknown as { readonly manifest: { readonly image: string } }).manifest.image;
  // What a reader has at hand where the documents say so.
  writeFileSync(join(site.directory, 'tracker.json'), '{"nothing": {}}');
  writeFileSync(join(site.directory, 'mirror.list'), 'deb http://ftp.debian.org/debian trixie main\n');
  mkdirSync(join(site.directory, 'lab'));
});
afterAll(() => removeSite(site));

/** A call with the names that the site here has: its one profile, its image, its mirror. */
function here(words: readonly string[]): string[] {
  const made = words
    .map((word) => word.replace(/^(?:kiosk|server|web|minimal|lab|box)-\d{8}\.\d{2}$/, image))
    .map((word) => (/^(?:kiosk|server|web|minimal|PROFILE|IMAGE|NAME)$/.test(word) ? 'demo' : word))
    .map((word) => word.replace(/^\/srv\/mirror\/debian$/, join(site.mirror, 'debian')))
    .map((word) => word.replace(/^\/etc\/apt\/mirror\.list$/, 'mirror.list'))
    .map((word) => word.replace(/^\/media\//, 'media-'))
    .map((word) => (word === 'FILE' ? '/usr/share/keyrings/debian-archive-keyring.gpg' : word));
  const at = made.indexOf('--site');
  if (at !== -1) made.splice(at, 2);
  return made;
}

const nameOf = (words: readonly string[]): string => {
  const two = words.slice(0, 2).join(' ');
  return /^(?:image|keys|mirror|profile|channel|medium|live) /.test(`${two} `) ? two : (words[0] ?? '');
};
const all = documentedCalls().filter(
  ({ words }) => !words.some((word) => /^(?:--help|--version|COMMAND|\.\.\.)$/.test(word)),
);
const isRun = ({ words }: { readonly words: readonly string[] }): boolean =>
  !Object.hasOwn(notRun, nameOf(words)) && !words.some((word) => notWith.test(word) || word === '-');
/** Each once, in the order of the documents; what makes a thing before what uses it. */
const first = (words: readonly string[]): number =>
  ['keys create', 'image export', 'channel set'].includes(nameOf(words)) ? 0 : 1;
const run = all.filter((line) => isRun(line)).toSorted((a, b) => first(a.words) - first(b.words));

describe('what the documents say to type, typed', () => {
  test('is much, and of each command that is not run somebody says why', () => {
    expect(run.length).toBeGreaterThan(25);
    const left = new Set(all.filter((line) => !isRun(line)).map(({ words }) => nameOf(words)));
    expect(Object.keys(notRun).filter((name) => !left.has(name))).toEqual([]);
  });

  const done = new Map<string, number>();
  test.each(run)('$where relive $words', async ({ words }) => {
    const args = here(words);
    const key = JSON.stringify(args);
    if (!done.has(key)) {
      const { status, last, stderr } = await runCommand(args, { site: site.directory, cwd: site.directory });
      // The site has a key and needs no other; a host may lack something; findings are no failures.
      const there = last?.['code'] === 'exists' || (last?.['code'] === 'not-found' && args[1] === 'remove');
      done.set(key, there ? 0 : status);
      if (!there && status > 1)
        throw new Error(`${args.join(' ')}: ${status} ${JSON.stringify(last)} ${stderr}`);
    }
    expect(done.get(key)).toBeLessThan(2);
  });
});
