import { describe, expect, test } from 'vitest';
import { commands } from '../../../src/commands/table.ts';
import { calledCommand, callsIn, documentedCalls } from '../../fixtures/documents.ts';

const names = new Set(['help', ...commands.map(({ name }) => name)]);

test('calls are found in code blocks', () => {
  const text = [
    'relive not this',
    '    relive image list --site "a b"   # says what',
    '    relive image show demo           which says more',
    '    ./run relive export x --bundle - \\',
    "      --since 'y z' | ssh far relive import - > log",
    '```sh',
    'relive doctor # here',
    '```',
    '    other relive build',
  ].join('\n');
  expect(callsIn(text, 'x').map(({ where, words }) => [where, words])).toEqual([
    ['x:2', ['image', 'list', '--site', 'a b']],
    ['x:3', ['image', 'show', 'demo']],
    ['x:4', ['export', 'x', '--bundle', '-', '--since', 'y z']],
    ['x:4', ['import', '-']],
    ['x:7', ['doctor']],
  ]);
});

test('what commander refuses is seen', async () => {
  expect(await calledCommand(['image', 'list', '--nothing'])).toMatch(/unknown option/);
  expect(await calledCommand(['image', 'show'])).toMatch(/missing required argument/);
  expect(await calledCommand(['imagine'])).toMatch(/unknown command/);
});

describe('every call in the documents is one that relive takes', () => {
  const calls = documentedCalls();

  test('there are many', () => {
    expect(calls.length).toBeGreaterThan(120);
  });

  test.each(calls)('$where relive $words', async ({ words }) => {
    expect(names).toContain(await calledCommand(words));
  });

  // Whoever looks for a command in the documents finds it.
  test('and every command is in them', async () => {
    const called = new Set<string>();
    for (const { words } of calls) called.add(await calledCommand(words));
    expect(commands.map(({ name }) => name).filter((name) => !called.has(name))).toEqual([]);
  });
});
