/**
 * `npm run package [-- DIRECTORY]`: makes relive_VERSION_all.deb in build/, or in DIRECTORY, and prints its path. Runs
 * compiled, out of build/package/.
 */
import { mkdir, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { ReliveError } from '../../src/core/error.ts';
import { run } from '../../src/host/process.ts';
import { packageJson } from './control.ts';
import { writeDeb } from './deb.ts';
import { packageTree } from './tree.ts';

/** The time that everything in the package bears: SOURCE_DATE_EPOCH, else that of the last commit. */
async function sourceDateEpoch(root: string): Promise<number> {
  const given = process.env['SOURCE_DATE_EPOCH'];
  const { stdout } =
    given === undefined
      ? await run('git', ['-C', root, 'log', '-1', '--format=%ct'], { signal: new AbortController().signal })
      : { stdout: given };
  if (/^\d{1,12}$/.test(stdout)) return Number(stdout);
  throw new ReliveError('usage', `no number of seconds: ${JSON.stringify(stdout)}`, {
    hint: 'SOURCE_DATE_EPOCH is the time of the source in seconds since 1970',
  });
}

// build/package/tools/package, compiled.
const root = join(import.meta.dirname, '../../../..');
const directory = resolve(process.argv[2] ?? join(root, 'build'));
const json = packageJson.parse(JSON.parse(await readFile(join(root, 'package.json'), 'utf8')));
const epoch = await sourceDateEpoch(root);
const output = join(directory, `relive_${json.version}_all.deb`);
await mkdir(directory, { recursive: true });
await writeDeb(await packageTree({ root, json, epoch }), json, epoch, output);
process.stdout.write(`${output}\n`);
