import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { commands } from '../../../src/commands/table.ts';
import { calledCommand, shellWords } from '../../fixtures/documents.ts';
import { repository } from '../../support.ts';

const images = join(repository, 'docs/images');
const lines = readFileSync(join(images, 'session.cast'), 'utf8').trimEnd().split('\n');
const events = lines.slice(1).map((line) => JSON.parse(line) as readonly [number, string, string]);
const text = events.map(([, , output]) => output).join('');
const typed = [...text.matchAll(/^.*?\$\S* (.+?)\r$/gm)].map(([, command = '']) => command);
const names = new Set(commands.map(({ name }) => name));

describe('the recording of a session (npm run recording)', () => {
  test('shows the way from nothing to an update', () => {
    const called = typed
      .filter((line) => line.startsWith('relive '))
      .map((line) => line.split(' ').slice(1, 3).join(' '));
    expect(called).toEqual([
      ...['init lab', 'keys create', 'lock demo', 'mirror sync', 'build demo', 'image show'],
      ...['lock demo', 'update demo'],
    ]);
  });

  test.each(typed.filter((line) => line.startsWith('relive ')))(
    '%s is a call that relive takes',
    async (line) => {
      expect(names).toContain(await calledCommand(shellWords(line).slice(1)));
    },
  );

  test('tells nothing of the machine that it was made on', () => {
    const addresses = new Set(text.match(/(?<=https?:\/\/)[^/\s]+/g));
    expect([...addresses].toSorted()).toEqual(['ftp.debian.org', 'security.debian.org']);
    expect(text).not.toMatch(/\/(?:home|root|tmp|var\/tmp|work)\b/);
  });

  test('is what its picture shows', () => {
    const script = `import { drawing } from ${JSON.stringify(join(repository, 'tools/recording-svg.js'))};
      const [header, ...events] = JSON.parse(process.argv[1]);
      process.stdout.write(drawing(events.map(([at, , text]) => [at, text]), header));`;
    const all = JSON.stringify(lines.map((line) => JSON.parse(line) as unknown));
    const drawn = execFileSync(process.execPath, ['--input-type=module', '--eval', script, all], {
      encoding: 'utf8',
    });
    expect(drawn).toBe(readFileSync(join(images, 'session.svg'), 'utf8'));
  });
});
