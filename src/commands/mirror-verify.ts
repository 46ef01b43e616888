import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { ReliveError } from '../core/error.ts';
import { withScratchDirectory } from '../host/anonymous.ts';
import { dearmour, isArmoured } from '../host/gpgv.ts';
import { findTrees } from '../mirror/tree.ts';
import { readVerified } from '../mirror/verified.ts';
import { type VerifyOptions, type VerifySummary, verifyTree } from '../mirror/verify.ts';
import { formatBytes, formatSeconds } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { type Call, manyArguments, optionValue } from './command.ts';
import { counted, repositoriesOf } from './mirror.ts';

/** What the options of `verify` and `repair` say. */
export function verifyOptions(call: Call): Pick<VerifyOptions, 'deep' | 'changed' | 'sample' | 'now'> {
  return {
    deep: call.options['deep'] === true,
    changed: call.options['changed'] === true,
    sample: sampleOf(optionValue(call, 'sample')),
    now: new Date(),
  };
}

function sampleOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const share = Number(/^(\d{1,3}(?:\.\d+)?) ?%$/.exec(text)?.[1] ?? Number.NaN) / 100;
  if (share > 0 && share <= 1) return share;
  throw new ReliveError('usage', `${JSON.stringify(text)} is no sample`, {
    hint: 'a share in percent: --sample 5%',
  });
}

/** The keyrings which this machine's apt trusts, for trees that no relive.yaml describes. */
function hostKeyrings(): string[] {
  const directory = '/etc/apt/trusted.gpg.d';
  const parts = existsSync(directory)
    ? readdirSync(directory).filter((name) => /\.(gpg|asc)$/.test(name))
    : [];
  return [
    '/usr/share/keyrings/debian-archive-keyring.gpg',
    '/etc/apt/trusted.gpg',
    ...parts.map((name) => join(directory, name)),
  ].filter((path) => existsSync(path));
}

/** Puts keyrings, binary and armoured, into one file. @throws ReliveError `not-found` */
async function joined(paths: readonly string[], directory: string): Promise<string> {
  const rings = paths.map((path) => {
    if (!existsSync(path)) {
      throw new ReliveError('not-found', `there is no keyring ${path}`, {
        hint: "--keyring names one; Debian's own keys are in the package debian-archive-keyring",
      });
    }
    const content = readFileSync(path);
    const text = content.toString('latin1');
    return isArmoured(text) ? dearmour(text, path) : content;
  });
  const file = join(directory, 'keyring.gpg');
  await writeFile(file, Buffer.concat(rings));
  return file;
}

/** Where it is remembered what was verified of a tree that is not ours. */
function recordOf(root: string): string {
  const cache = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache');
  const name = createHash('sha256').update(realpathSync(root)).digest('hex').slice(0, 32);
  return join(cache, 'relive', 'verified', name);
}

function isPath(argument: string): boolean {
  return argument.includes('/') || argument === '.' || argument === '..';
}

async function verifyPath(call: Call, path: string): Promise<{ name: string; summary: VerifySummary }[]> {
  const options = verifyOptions(call);
  const partial = call.options['partial'] === true;
  const named = optionValue(call, 'keyring');
  return await withScratchDirectory(tmpdir(), async (directory) => {
    const keyring = await joined(
      named === undefined ? hostKeyrings() : named.split(',').map((one) => resolve(one)),
      directory,
    );
    const done = [];
    for (const tree of findTrees(resolve(path), partial)) {
      const record = await readVerified(recordOf(tree.root));
      const all = { ...options, keyring, fingerprints: undefined };
      done.push({
        name: tree.name,
        summary: await verifyTree(tree, all, record, () => undefined, call.context),
      });
    }
    return done;
  });
}

/** What a verification found, in a line. */
export function summaryLine(
  name: string,
  { suites, ok, bytes, skipped, findings, wrong }: VerifySummary,
): string {
  const kinds = Object.entries(findings).map(([kind, count]) => `${count} ${kind}`);
  const left = skipped === 0 ? '' : `, ${counted(skipped, 'file')} not read again`;
  const found = wrong === 0 ? 'nothing wrong' : kinds.join(', ');
  return `${name}: ${counted(suites, 'suite')}, ${counted(ok, 'file')} ok (${formatBytes(bytes)})${left}; ${found}`;
}

export async function run(call: Call): Promise<CommandResult> {
  const started = performance.now();
  const names = manyArguments(call, 0);
  const paths = names.filter((name) => isPath(name));
  const done: { name: string; summary: VerifySummary }[] = [];
  for (const path of paths) done.push(...(await verifyPath(call, path)));
  // A directory is verified without a site, and without loading what reads one.
  if (paths.length < names.length || names.length === 0) {
    const { loadSite } = await import('../site/site.ts');
    const { verifyRepository } = await import('../mirror/verify-repository.ts');
    const site = await loadSite(call.siteDirectory);
    const options = verifyOptions(call);
    const chosen = names.filter((name) => !isPath(name));
    for (const repository of repositoriesOf(site, chosen)) {
      const summary = await verifyRepository(site, repository, options, call.context);
      done.push({ name: repository.name, summary });
    }
  }
  const wrong = done.reduce((sum, { summary }) => sum + summary.wrong, 0);
  const seconds = (performance.now() - started) / 1000;
  return {
    ok: wrong === 0,
    data: { trees: done.map(({ name, summary }) => ({ name, ...summary })), findings: wrong, seconds },
    text: [
      ...done.map(({ name, summary }) => summaryLine(name, summary)),
      `${wrong === 0 ? 'Verified' : counted(wrong, 'finding')} in ${formatSeconds(seconds)}.`,
    ].join('\n'),
  };
}
