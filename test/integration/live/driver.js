// Runs in a mount namespace of its own (transition.test.ts): makes two trees and a system of the first one, replays the
// difference on it, cut off where it is told to, and takes it back. Prints one JSON object.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  lchownSync,
  linkSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';

const [modules, work, text] = process.argv.slice(-3);
const load = async (path) => await import(join(modules, path));
const { digestTree, entryStatus, readEntries } = await load('rootfs/tree.js');
const { makeDelta, identityOf } = await load('rootfs/delta.js');
const { mountStack } = await load('rootfs/stack.js');
const journals = await load('live/journal.js');
const transitions = await load('live/transition.js');

const { before, after, byHand, cuts, conflicts } = JSON.parse(text);
const context = { emit: () => undefined, signal: new AbortController().signal };
execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', work]);
const inside = (path) => join(work, path);

function makeTree(root, nodes) {
  mkdirSync(root);
  const groups = new Map();
  for (const { path, kind, value, mode, uid } of nodes) {
    const place = join(root, path);
    const above = dirname(path)
      .split('/')
      .map((_, index, parts) => parts.slice(0, index + 1).join('/'));
    if (above.some((each) => entryStatus(root, each)?.isDirectory() === false)) continue;
    mkdirSync(dirname(place), { recursive: true });
    if (entryStatus(root, path) !== undefined) continue;
    if (kind === 'directory') mkdirSync(place);
    else if (kind === 'link') symlinkSync(`target-${value}`, place);
    else if (kind === 'shared' && groups.has(value)) linkSync(groups.get(value), place);
    else {
      writeFileSync(place, `${path === 'etc/passwd' ? 'root' : 'content'}:${value}\n`);
      if (kind === 'shared') groups.set(value, place);
    }
    if (
      kind !== 'link' &&
      entryStatus(root, path).nlink === (kind === 'directory' ? entryStatus(root, path).nlink : 1)
    ) {
      chmodSync(place, kind === 'directory' ? mode | 0o700 : mode);
      lchownSync(place, uid, uid);
      if (mode === 0o644 && kind === 'file')
        execFileSync('setfattr', ['-n', 'trusted.note', '-v', String(value), place]);
    }
  }
}

makeTree(inside('a'), before);
makeTree(inside('b'), after);
mkdirSync(inside('scratch'));
await makeDelta({ from: inside('a'), to: inside('b') }, inside('delta'), inside('scratch'), context);
await mountStack({ lower: [inside('a'), inside('delta')] }, inside('to'), context);
await mountStack({ lower: [inside('a')] }, inside('from'), context);
const upper = inside('ram/rw');
mkdirSync(inside('ram/work'), { recursive: true });
mkdirSync(upper);
mkdirSync(inside('root'));
execFileSync('mount', [
  '-t',
  'overlay',
  'overlay',
  '-o',
  `lowerdir=${inside('a')},upperdir=${upper},workdir=${inside('ram/work')},redirect_dir=on`,
  inside('root'),
]);
const root = inside('root');
for (const { path, action, value } of byHand) {
  const above = entryStatus(root, dirname(path));
  if (above === undefined || !above.isDirectory()) continue;
  if (action === 'remove') rmSync(join(root, path), { recursive: true, force: true });
  else if (entryStatus(root, path)?.isDirectory() !== true) {
    rmSync(join(root, path), { force: true });
    writeFileSync(join(root, path), `mine:${value}\n`);
  }
}

const from = { layers: [{ digest: 'a', directory: inside('a') }], tree: inside('from') };
const to = { layers: [...from.layers, { digest: 'b', directory: inside('delta') }], tree: inside('to') };
const system = { root, upper, booted: inside('from') };
const told = [];
const programs = {
  plan: async () => ({ stop: [], restart: [], start: [], leave: [] }),
  stop: async () => undefined,
  tell: async (changes) => {
    told.push(changes.length);
    return [];
  },
};

/** A context that is cut off at an entry: by an error that nobody catches, as a kill is. */
function cutting(at) {
  let count = 0;
  return {
    signal: context.signal,
    emit: ({ event }) => {
      if (event !== 'progress' || at === undefined || count++ < at) return;
      throw new Error('cut off');
    },
  };
}

async function attempt(action) {
  try {
    await action();
    return false;
  } catch (error) {
    if (error.message !== 'cut off') throw error;
    return true;
  }
}

const digest = async (path) => (await digestTree(path, context)).digest;
const start = await digest(root);
const entriesBefore = await readEntries(root, context);
const plan = await transitions.planTransition(system, from, to, conflicts, context);
const facts = { from: 'a', to: 'b', manifest: '', store: '' };
let cutOff = await attempt(async () => {
  const begun = await transitions.beginTransition(
    system,
    to,
    plan,
    await programs.plan(),
    facts,
    journals.nextJournal(upper, []),
    cutting(undefined),
  );
  await transitions.finishTransition(system, begun, programs, cutting(cuts.apply));
});
const last = async () => (await journals.readJournals(upper)).at(-1);
/** A directory goes before something else takes its place: this is how a kill between the two leaves it. */
const between = () => {
  if (cutOff && cuts.missing !== undefined) rmSync(join(root, cuts.missing), { recursive: true });
};
between();
const resumed = cutOff && !cuts.undoAtOnce;
if (resumed) await transitions.finishTransition(system, await last(), programs, context);
const applied = await digest(root);
const entriesApplied = await readEntries(root, context);
const kept = byHand.filter(({ path }) => {
  const [old, now] = [entriesBefore.get(path), entriesApplied.get(path)];
  return old === undefined ? now === undefined : now !== undefined && identityOf(old) === identityOf(now);
});
cutOff = await attempt(
  async () => await transitions.undoTransition(system, await last(), programs, 'beside', cutting(cuts.undo)),
);
between();
if (cutOff) await transitions.undoTransition(system, await last(), programs, 'beside', context);
const end = await digest(root);
const differences = [];
if (end !== start) {
  const entriesEnd = await readEntries(root, context);
  for (const path of new Set([...entriesBefore.keys(), ...entriesEnd.keys()])) {
    const [a, b] = [entriesBefore.get(path), entriesEnd.get(path)];
    if (a === undefined || b === undefined || identityOf(a) !== identityOf(b))
      differences.push({ path, a, b });
  }
}
const wanted = await readEntries(inside('b'), context);
const wrong = [];
for (const path of new Set([...wanted.keys(), ...entriesApplied.keys()])) {
  const [a, b] = [wanted.get(path), entriesApplied.get(path)];
  if (a === undefined || b === undefined || identityOf(a) !== identityOf(b))
    wrong.push({ path, wanted: a, found: b });
}
process.stdout.write(
  JSON.stringify({
    resumed,
    told,
    same: applied === (await digest(inside('b'))),
    back: end === start,
    left: (await journals.readJournals(upper)).length,
    conflicts: plan.conflicts,
    changes: plan.changes.map(({ path }) => path),
    kept: kept.map(({ path }) => path),
    beside: [...entriesApplied.keys()].filter((path) => path.endsWith('.relive-new')),
    passwd: (() => {
      try {
        return readFileSync(join(inside('root'), 'etc/passwd'), 'utf8');
      } catch {
        return null;
      }
    })(),
    differences,
    wrong,
  }),
);
