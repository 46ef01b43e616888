import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { repository, startProgram, temporaryDirectory } from '../../support.ts';

/**
 * Makes trees at random, each out of the one before, the delta between the two, and stacks of up to four deltas; says
 * where a stack shows another tree than the one that was meant. Runs in a mount namespace of its own.
 */
const program = `
import { chmodSync, chownSync, linkSync, lstatSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { makeDelta } from '${repository}/build/modules/rootfs/delta.js';
import { mountStack, unmount } from '${repository}/build/modules/rootfs/stack.js';
import { digestTree } from '${repository}/build/modules/rootfs/tree.js';

const [directory, rounds, seed] = process.argv.slice(2);
execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', directory]);
const context = { emit: () => {}, signal: new AbortController().signal };
let state = Number(seed);
const random = (below) => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * below);
};
const names = ['a', 'b', 'c', ' d', '-e', 'caf\\u00e9', "f'{}"];
const places = (root) => {
  const found = [root];
  for (const entry of readdirSync(root, { withFileTypes: true, recursive: true })) {
    if (entry.isDirectory()) found.push(join(entry.parentPath, entry.name));
  }
  return found;
};
const files = (root) =>
  readdirSync(root, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
const pick = (list) => list[random(list.length)];
function change(root) {
  const path = join(pick(places(root)), pick(names));
  const status = lstatSync(path, { throwIfNoEntry: false });
  const what = random(10);
  if (what < 4 && status !== undefined) rmSync(path, { recursive: true });
  else if (what === 4 && status !== undefined && !status.isSymbolicLink()) chmodSync(path, [0o600, 0o755, 0o4711][random(3)]);
  else if (what === 5 && status !== undefined && !status.isSymbolicLink()) chownSync(path, random(3), random(3));
  else if (what === 6 && status?.isFile()) execFileSync('setfattr', ['-n', 'user.x', '-v', String(random(3)), path]);
  else {
    rmSync(path, { recursive: true, force: true });
    const kind = random(6);
    const all = files(root);
    if (kind < 2) mkdirSync(path);
    else if (kind === 2) symlinkSync(pick(names), path);
    else if (kind === 3 && all.length > 0) linkSync(pick(all), path);
    else if (kind === 4) execFileSync('mkfifo', [path]);
    else writeFileSync(path, String(random(4)));
  }
}

let wrong = 0;
let compared = 0;
for (let round = 0; round < Number(rounds); round += 1) {
  const home = join(directory, String(round));
  mkdirSync(home);
  mkdirSync(join(home, '0'));
  for (let n = 0; n < 12; n += 1) change(join(home, '0'));
  const lower = [join(home, '0')];
  for (let depth = 1; depth <= 4; depth += 1) {
    const to = join(home, 'to-' + depth);
    execFileSync('cp', ['--archive', depth === 1 ? join(home, '0') : join(home, 'to-' + (depth - 1)), to]);
    for (let n = 0; n < 1 + random(8); n += 1) change(to);
    const from = join(home, 'from-' + depth);
    await mountStack({ lower }, from, context);
    const delta = join(home, 'delta-' + depth);
    await makeDelta({ from, to }, delta, home, context);
    lower.push(delta);
    const merged = join(home, 'merged-' + depth);
    await mountStack({ lower }, merged, context);
    const [meant, shown] = [await digestTree(to, context), await digestTree(merged, context)];
    compared += 1;
    if (meant.digest !== shown.digest) {
      wrong += 1;
      console.log('seed ' + seed + ', round ' + round + ', depth ' + depth);
      console.log(execFileSync('sh', ['-c', 'cd "$1" && find . -ls; cd "$2" && find . -ls', 'sh', to, merged], { encoding: 'utf8' }));
    }
    await unmount(merged, context);
    await unmount(from, context);
  }
  rmSync(home, { recursive: true });
}
console.log(compared + ' compared, ' + wrong + ' wrong');
`;

test('a stack of deltas shows the trees that were meant, whatever changed', async () => {
  const directory = temporaryDirectory();
  const path = join(directory, 'program.mjs');
  writeFileSync(path, program);
  const seed = Math.floor(Math.random() * 2 ** 31);
  const args = ['--mount', '--propagation', 'private', process.execPath, path, directory, '25', String(seed)];
  const { stdout, stderr, status } = await startProgram('unshare', args).ended;
  expect({ stdout, stderr, status }).toEqual({ stdout: '100 compared, 0 wrong\n', stderr: '', status: 0 });
});
