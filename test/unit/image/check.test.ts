import { expect, test } from 'vitest';
import { frozen } from '../../../src/image/check.ts';
import type { LocatedMap } from '../../../src/site/yaml.ts';

const located: LocatedMap = { kind: 'map', at: { file: '/p.yaml', line: 1, column: 1 }, entries: new Map() };
const kept = { volume: 'DATA', how: 'link', seed: true, required: false, grow: false } as const;

test('files of packages below a persistent path are named, but for those in /etc', () => {
  const contents = new Map([
    ['aspell', { files: ['var/lib/aspell/words', 'usr/bin/aspell'] }],
    ['hunspell', { files: ['var/lib/aspell-more/words'] }],
    ['ssh', { files: ['etc/ssh/sshd_config'] }],
    ['games', { files: ['usr/local/games/chess'] }],
  ]);
  const of = (path: string): (string | undefined)[] =>
    frozen({ profile: { persist: [{ path, ...kept }] }, located }, contents).map(({ detail }) => detail);
  expect(of('/var/lib/aspell')).toEqual([expect.stringMatching(/there are files of aspell,/)]);
  expect(of('/var/lib/aspell/words')).toHaveLength(1);
  expect(of('/usr/local')).toEqual([expect.stringMatching(/files of games,/)]);
  expect(of('/etc/ssh')).toEqual([]);
  expect(of('/home')).toEqual([]);
});
