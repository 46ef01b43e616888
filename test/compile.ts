import { spawnSync } from 'node:child_process';

/**
 * Builds dist/ once before the tests: those through the front door run what users run. And compiles the modules of src/ into
 * build/modules/, for programs that tests start.
 */
export default function compile(): void {
  for (const command of [
    ['node', 'tools/bundle.js'],
    ['node_modules/.bin/tsc', '-p', 'tsconfig.modules.json'],
  ]) {
    const [program = '', ...args] = command;
    const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' });
    if (status !== 0) throw new Error(`src/ does not compile:\n${stdout}${stderr}`);
  }
}
