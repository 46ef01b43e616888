import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { repository, startProgram, temporaryDirectory } from '../../support.ts';
import { exampleManifest } from '../../unit/image/example.ts';

/**
 * Updates in a row, each with random changes to a small system, through the packing of images into a store: deltas, the
 * merging of the fifth, kernels that change, full images where deltas grow too large, images built upon older ones. After
 * each the stack as it lies in the store is mounted and compared with the tree that was meant.
 */
const program = `
import { chmodSync, chownSync, linkSync, lstatSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { packFull, packOnto } from '${repository}/build/modules/image/packing.js';
import { formatManifest, layerFile } from '${repository}/build/modules/image/manifest.js';
import { storedLayers, withStack } from '${repository}/build/modules/image/mount.js';
import { requireMountable } from '${repository}/build/modules/image/stack-limits.js';
import { newestImage, publishImage, removeOrphans, stagingDirectory } from '${repository}/build/modules/image/store.js';
import { digestTree } from '${repository}/build/modules/rootfs/tree.js';

const [directory, rounds, seed, example] = process.argv.slice(2);
execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', directory]);
const context = { emit: () => {}, signal: new AbortController().signal };
let state = Number(seed);
const random = (below) => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * below);
};
const pick = (list) => list[random(list.length)];
const names = ['a', 'b', 'c', ' d', '-e', 'caf\\u00e9', "f'{}"];
const tree = join(directory, 'tree');
const store = join(directory, 'store');
const scratch = join(directory, 'scratch');
const places = ['usr', 'usr/share', 'opt'].map((path) => join(tree, path));
for (const path of ['usr/lib/modules', 'usr/share', 'opt', 'boot', 'etc']) mkdirSync(join(tree, path), { recursive: true });
writeFileSync(join(tree, 'usr/filling'), randomBytes(96 * 1024));
let kernel = 0;
function installKernel() {
  rmSync(join(tree, 'usr/lib/modules', String(kernel)), { recursive: true, force: true });
  rmSync(join(tree, 'boot/vmlinuz-' + kernel), { force: true });
  kernel += 1;
  mkdirSync(join(tree, 'usr/lib/modules', String(kernel)));
  writeFileSync(join(tree, 'usr/lib/modules', String(kernel), 'module'), 'module ' + kernel);
  writeFileSync(join(tree, 'boot/vmlinuz-' + kernel), randomBytes(4096));
}
function change() {
  const below = (root) => readdirSync(root, { withFileTypes: true, recursive: true });
  const all = places.filter((root) => lstatSync(root, { throwIfNoEntry: false })?.isDirectory());
  const directories = all.flatMap((root) => [root, ...below(root).filter((each) => each.isDirectory()).map((each) => join(each.parentPath, each.name))]).filter((path) => !path.includes('/modules') && !path.endsWith('/usr'));
  const path = join(pick(directories), pick(names));
  const status = lstatSync(path, { throwIfNoEntry: false });
  const what = random(10);
  if (what < 3 && status !== undefined) rmSync(path, { recursive: true });
  else if (what === 3 && status !== undefined && !status.isSymbolicLink()) chmodSync(path, pick([0o600, 0o755, 0o4711]));
  else if (what === 4 && status !== undefined && !status.isSymbolicLink()) chownSync(path, random(3), random(3));
  else if (what === 5 && status?.isFile()) execFileSync('setfattr', ['-n', 'user.x', '-v', String(random(3)), path]);
  else {
    rmSync(path, { recursive: true, force: true });
    const files = all.flatMap((root) => below(root).filter((each) => each.isFile()).map((each) => join(each.parentPath, each.name))).filter((file) => !file.includes('/modules/'));
    const kind = random(7);
    if (kind < 2) mkdirSync(path);
    else if (kind === 2) symlinkSync(pick(names), path);
    else if (kind === 3 && files.length > 0) linkSync(pick(files), path);
    else if (kind === 4) execFileSync('mkfifo', [path]);
    else writeFileSync(path, random(12) === 0 ? randomBytes(24 * 1024) : String(random(4)));
  }
}

installKernel();
const profile = { name: 'small', host: 'virtual-machine', image: { compression: { algorithm: 'gzip', level: 1 } } };
const seen = { full: 0, deltas: 0, merged: 0, kernels: 0, older: 0 };
const manifests = [];
let wrong = 0;
for (let round = 0; round <= Number(rounds); round += 1) {
  if (round > 0) for (let n = 0; n < 1 + random(6); n += 1) change();
  if (round > 0 && random(8) === 0) { installKernel(); seen.kernels += 1; }
  const version = '20261122.01'.replace(/^........(...)$/, String(20260101 + round) + '$1');
  const staging = await stagingDirectory(store);
  mkdirSync(scratch);
  const newest = await newestImage(store, 'small');
  const older = manifests.length > 3 && random(10) === 0 ? pick(manifests.slice(-4)) : undefined;
  if (older !== undefined) seen.older += 1;
  const chosen = older === undefined ? undefined : { ...newest, name: older.image, version: older.version, directory: join(store, 'images/small', older.version) };
  const system = { profile, merged: tree, kernel: String(kernel), sourceDateEpoch: 1700000000, staging, scratch };
  const packed = await (newest === undefined ? packFull : packOnto(store, chosen))(system, newest, context);
  rmSync(scratch, { recursive: true });
  const before = older ?? manifests.at(-1);
  const manifest = { ...JSON.parse(example), image: 'small-' + version, version, layers: packed.stack, tree: packed.tree.digest, kernel: { version: String(kernel), digest: '3'.repeat(64), size: 1 } };
  const staged = join(staging, 'small-' + version);
  mkdirSync(staged);
  writeFileSync(join(staged, 'manifest.json'), formatManifest(manifest));
  await publishImage(store, { profile: 'small', version }, staged, packed.stack, packed.added);
  requireMountable(manifest.image, packed.stack);
  const deltas = (layers) => layers.filter(({ role }) => role === 'delta').length;
  if (packed.parent === null) seen.full += 1;
  else if (before !== undefined && deltas(packed.stack) <= deltas(before.layers) && deltas(packed.stack) > 0) seen.merged += 1;
  else seen.deltas += 1;
  manifests.push(manifest);
  // What nothing has been built upon for long goes, as retention would let it go.
  if (manifests.length > 6) {
    rmSync(join(store, 'images/small', manifests.at(-7).version), { recursive: true });
    await removeOrphans(store);
  }
  const meant = await digestTree(tree, context);
  const shown = await withStack(storedLayers(store, manifest), join(directory, 'proof'), context, async (root) => await digestTree(root, context));
  if (meant.digest !== shown.digest || deltas(packed.stack) > 4) {
    wrong += 1;
    console.log('seed ' + seed + ', round ' + round + ': ' + packed.stack.map(({ role }) => role).join(' '));
  }
}
console.log(JSON.stringify({ wrong, images: manifests.length, ...seen }));
`;

test('a hundred updates in a row show what was meant, each of them', async () => {
  const directory = temporaryDirectory();
  const path = join(directory, 'program.mjs');
  writeFileSync(path, program);
  const seed = Math.floor(Math.random() * 2 ** 31);
  const words = [process.execPath, path, directory, '100', String(seed), JSON.stringify(exampleManifest)];
  const args = ['--mount', '--propagation', 'private', ...words];
  const { stdout, stderr, status } = await startProgram('unshare', args).ended;
  expect({ seed, stderr, status }).toEqual({ seed, stderr: '', status: 0 });
  const result = JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}') as Record<string, number>;
  expect({ stdout, ...result }).toMatchObject({ stdout, wrong: 0, images: 101 });
  // Every way of packing was taken.
  for (const kind of ['full', 'deltas', 'merged', 'kernels', 'older'])
    expect(result[kind]).toBeGreaterThan(0);
});
