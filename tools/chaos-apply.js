/**
 * One step of a live apply for tools/chaos.js, in a process of its own that may be killed at any moment:
 * `node tools/chaos-apply.js MODULES WORK STEP SEED`, in a private mount namespace. MODULES is build/modules; steps:
 * prepare (two trees, a system in memory that shows the first, an image's difference), apply and undo (as src/live/update.ts does
 * them: anew, or on from where a killed one was), look (prints whether the system is the first tree, the second, and how many journals there are).
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, linkSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { numbersOf } from './chaos-random.js';

const [modules, work, step, seed] = process.argv.slice(-4);
const random = numbersOf(Number(seed));
const load = async (path) => await import(join(modules, path));
const { readEntries } = await load('rootfs/tree.js');
const { identityOf, makeDelta } = await load('rootfs/delta.js');
const { mountStack } = await load('rootfs/stack.js');
const journals = await load('live/journal.js');
const transitions = await load('live/transition.js');
const context = { emit: () => undefined, signal: new AbortController().signal };
const inside = (path) => join(work, path);
const [root, upper] = [inside('root'), inside('ram/rw')];
const system = { root, upper, booted: inside('from') };
const from = { layers: [{ digest: 'a', directory: inside('a') }], tree: inside('from') };
const to = { layers: [...from.layers, { digest: 'b', directory: inside('delta') }], tree: inside('to') };
const programs = {
  plan: async () => ({ stop: [], restart: [], start: [], leave: [] }),
  stop: async () => undefined,
  tell: async () => [],
};

const oneOf = (list) => list[Math.floor(random() * list.length)];

/** Some hundred entries of all kinds; those of the second tree are partly those of the first. */
function makeTree(tree, words) {
  for (const word of words) {
    const [path, kind, value] = word.split(' ');
    const place = join(tree, path);
    mkdirSync(dirname(place), { recursive: true });
    if (kind === 'link') symlinkSync(`target-${value}`, place);
    else if (kind === 'directory') mkdirSync(place, { recursive: true });
    else {
      writeFileSync(place, `${path} ${value}\n`.repeat(1 + Number(value) * 500));
      chmodSync(place, kind === 'program' ? 0o755 : 0o644);
      if (kind === 'shared') linkSync(place, `${place}-too`);
    }
  }
}

const kinds = ['file', 'file', 'program', 'link', 'directory', 'shared'];
const entry = (path) => `${path} ${oneOf(kinds)} ${oneOf([0, 1, 2, 9])}`;
/** What counts of a tree: all but times, which the system is free to change. */
async function seenIn(tree) {
  const entries = await readEntries(tree, context);
  return JSON.stringify([...entries].map(([path, each]) => `${path} ${identityOf(each)}`).toSorted());
}

async function isTree(name) {
  return (await seenIn(root)) === (await seenIn(inside(name)));
}

const last = async () => (await journals.readJournals(upper)).at(-1);
const steps = {
  prepare: async () => {
    const paths = Array.from({ length: 400 }, (_, index) => {
      const above = ['etc', 'opt/x', 'srv', 'usr/bin', 'usr/lib', 'usr/share/d', 'var/lib/p'][index % 7];
      return `${above}/${index % 3}/e${index}`;
    });
    const first = paths.filter(() => random() < 0.8).map(entry);
    const there = new Map(first.map((word) => [word.split(' ')[0], word]));
    const second = paths
      .filter(() => random() < 0.8)
      .map((path) => (random() < 0.5 ? (there.get(path) ?? entry(path)) : entry(path)));
    for (const name of ['a', 'b', 'scratch', 'root', 'ram/rw', 'ram/work'])
      mkdirSync(inside(name), { recursive: true });
    makeTree(inside('a'), first);
    makeTree(inside('b'), second);
    await makeDelta({ from: inside('a'), to: inside('b') }, inside('delta'), inside('scratch'), context);
    await mountStack({ lower: [inside('a'), inside('delta')] }, inside('to'), context);
    await mountStack({ lower: [inside('a')] }, inside('from'), context);
    const layers = `lowerdir=${inside('a')},upperdir=${upper},workdir=${inside('ram/work')}`;
    execFileSync('mount', ['-t', 'overlay', 'overlay', '-o', `${layers},redirect_dir=on`, root]);
  },
  apply: async () => {
    let cut = await last();
    if (cut?.journal.state === 'done') return;
    if (cut?.journal.state === 'staging') {
      await transitions.dropTransition(system, cut);
      cut = undefined;
    }
    if (cut === undefined) {
      const plan = await transitions.planTransition(system, from, to, 'beside', context);
      const directory = journals.nextJournal(upper, await journals.readJournals(upper));
      const facts = { from: 'a', to: 'b', manifest: '', store: '' };
      cut = await transitions.beginTransition(
        ...[system, to, plan, await programs.plan(), facts, directory, context],
      );
    }
    await transitions.finishTransition(system, cut, programs, context);
  },
  undo: async () => {
    const kept = await last();
    if (kept === undefined) return;
    if (kept.journal.state === 'staging') await transitions.dropTransition(system, kept);
    else await transitions.undoTransition(system, kept, programs, 'beside', context);
  },
  look: async () => {
    const [first, second] = [await isTree('a'), await isTree('b')];
    const left = (await journals.readJournals(upper)).length;
    process.stdout.write(JSON.stringify({ first, second, left }));
  },
};
await steps[step]();
