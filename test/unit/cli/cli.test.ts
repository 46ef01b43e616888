import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { commands } from '../../../src/commands/table.ts';
import { version } from '../../../src/core/version.ts';
import { cli, relive, startProgram, temporaryDirectory } from '../../support.ts';

describe('help and version', () => {
  test('--version is the version', async () => {
    expect(await relive(['--version'])).toMatchObject({ status: 0, stdout: `${version}\n`, stderr: '' });
  });

  test('--help lists every command or its group', async () => {
    const { status, stdout } = await relive(['--help']);
    expect(status).toBe(0);
    for (const { name } of commands) expect(stdout).toMatch(new RegExp(`^  ${name.split(' ')[0]}\\b`, 'm'));
  });

  test.each(commands.map((spec) => [spec.name, spec] as const))(
    '%s --help has examples',
    async (name, spec) => {
      const { status, stdout, stderr } = await relive([...name.split(' '), '--help']);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      expect(spec.examples.length).toBeGreaterThan(0);
      for (const { command } of spec.examples) {
        expect(command).toMatch(new RegExp(`^relive ${name}\\b`));
        expect(stdout).toContain(command);
      }
      for (const { flags } of spec.options ?? []) expect(stdout).toContain(flags);
    },
  );

  test('every command of the table can be loaded, and every name is there once', async () => {
    expect(new Set(commands.map(({ name }) => name)).size).toBe(commands.length);
    for (const { load } of commands) expect(await load()).toHaveProperty('run');
  });
});

describe('wrong usage ends with status 2', () => {
  test('an unknown command, with the nearest one', async () => {
    const { status, stderr, stdout } = await relive(['doctr']);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toContain("unknown command 'doctr'");
    expect(stderr).toContain('Did you mean doctor?');
  });

  test.each([
    [['doctor', '--no-such-option'], "unknown option '--no-such-option'"],
    [['doctor', 'superfluous'], 'too many arguments'],
    [['doctor', '--site'], 'argument missing'],
    [['vm', 'demo', '--settle', '9'], '--settle says when the picture is taken'],
    [['vm', 'demo', '--power-off', 'no'], '--power-off no: a whole number from 0 to 86400 is wanted'],
    [['vm', 'demo', '--power-off', '0', '--pull-out'], 'the guest must show that it still powers off'],
    [[], 'Usage: relive'],
  ])('%j', async (args, says) => {
    const { status, stderr } = await relive(args);
    expect(status).toBe(2);
    expect(stderr).toContain(says);
  });

  test.each([
    [['doctr'], "unknown command 'doctr'"],
    [['doctor', '--no-such-option'], "unknown option '--no-such-option'"],
    [[], 'no command was given'],
  ])('%j with --json is one JSON object', async (args, says) => {
    const { status, stdout, stderr } = await relive([...args, '--json']);
    expect({ status, stderr }).toEqual({ status: 2, stderr: '' });
    expect(JSON.parse(stdout)).toMatchObject({ event: 'error', ok: false, code: 'usage' });
    expect(stdout).toContain(says);
  });
});

describe('doctor', () => {
  interface Result {
    readonly event: string;
    readonly checks: readonly { readonly name: string; readonly detail: string }[];
  }

  test('speaks JSON, the result last, and tells by its status whether something is missing', async () => {
    const { status, stdout, stderr } = await relive(['doctor', '--json']);
    expect(stderr).toBe('');
    const lines = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Result);
    const findings = lines.filter(({ event }) => event === 'finding');
    expect(lines.at(-1)).toMatchObject({ event: 'result', ok: findings.length === 0 });
    expect(status).toBe(findings.length === 0 ? 0 : 1);
    const node = lines.at(-1)?.checks.find(({ name }) => name === 'Node.js');
    expect(node).toMatchObject({ state: 'good', detail: process.versions.node });
  });

  test('looks at the disk of the site that is asked for', async () => {
    const site = join(temporaryDirectory(), 'site');
    const { stdout } = await relive(['doctor', '--site', site]);
    expect(stdout).toMatch(new RegExp(`disk +[\\d.]+ GB free at ${site}`));
  });
});

/** Runs the command line on a pseudo-terminal (script(1)) and gives all that the terminal was sent. */
const onTerminal = async (command: string, env: NodeJS.ProcessEnv): Promise<string> => {
  const { NO_COLOR: _, TERM: __, ...rest } = process.env;
  const program = startProgram('script', ['-qec', command, '/dev/null'], { env: { ...rest, ...env } });
  return (await program.ended).stdout;
};

describe('where lines go', () => {
  const command = `'${process.execPath}' '${cli}' doctor --site /proc`;

  test('on a terminal findings are coloured', async () => {
    // /proc has no room for anything, so there is at least one finding.
    expect(await onTerminal(command, { TERM: 'xterm' })).toContain('\u001b[31munsuitable:\u001b[39m disk');
  });

  test.each([
    ['NO_COLOR', { TERM: 'xterm', NO_COLOR: '1' }],
    ['TERM=dumb', { TERM: 'dumb' }],
  ])('%s makes the lines plain', async (_, env) => {
    const text = await onTerminal(command, env);
    expect(text).toContain('unsuitable: disk: ');
    expect(text).not.toContain('\u001b');
  });

  test('so does a pipe; findings and the result go apart', async () => {
    const { stdout, stderr } = await relive(['doctor', '--site', '/proc']);
    expect(stderr).toContain('unsuitable: disk: ');
    expect(stdout).toContain('GB are needed');
    expect(stdout + stderr).not.toContain('\u001b');
  });

  test('a reader that has gone away is no crash', async () => {
    const { stderr, status } = await startProgram('sh', ['-c', `${command} 2>&1 | true`]).ended;
    expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
  });
});
