import { spawnSync } from 'node:child_process';

/** Compiles src/ into dist/ once before the tests: those through the front door run what users run. */
export default function compile(): void {
  const { status, stdout, stderr } = spawnSync('node_modules/.bin/tsc', ['-p', 'tsconfig.build.json'], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`src/ does not compile:\n${stdout}${stderr}`);
}
