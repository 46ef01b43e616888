import { expect, test } from 'vitest';
import { mergeAccounts } from '../../../src/live/accounts.ts';

const lines = (...all: readonly string[]): string => all.map((line) => `${line}\n`).join('');

test('users of the image are added, changed and removed; those made by hand stay', () => {
  const base = lines(
    'root:x:0:0::/root:/bin/bash',
    'old:x:990:990::/:/bin/false',
    'web:x:33:33::/var/www:/bin/sh',
  );
  const to = lines(
    'root:x:0:0::/root:/bin/bash',
    'web:x:33:33::/srv/www:/bin/sh',
    'new:x:991:991::/:/bin/false',
  );
  const live = `${base}me:x:1000:1000::/home/me:/bin/bash\n`;
  expect(mergeAccounts('etc/passwd', base, to, live)).toBe(
    lines(
      'root:x:0:0::/root:/bin/bash',
      'web:x:33:33::/srv/www:/bin/sh',
      'me:x:1000:1000::/home/me:/bin/bash',
      'new:x:991:991::/:/bin/false',
    ),
  );
});

test('a password that was changed by hand stays, whatever the image has', () => {
  const base = lines('demo:$6$old:20000::::::', 'root:*:20000::::::');
  const to = lines('demo:$6$image:20001::::::', 'root:!:20001::::::');
  const live = lines('demo:$6$mine:20002::::::', 'root:*:20000::::::');
  expect(mergeAccounts('etc/shadow', base, to, live)).toBe(
    lines('demo:$6$mine:20002::::::', 'root:!:20001::::::'),
  );
});

test('a user whom somebody removed, or changed before the image removed him, stays so', () => {
  const base = lines('a:1', 'b:1');
  expect(mergeAccounts('etc/passwd', base, lines('a:2', 'b:1'), lines('b:1'))).toBe(lines('b:1'));
  expect(mergeAccounts('etc/passwd', base, lines('a:1'), lines('a:1', 'b:2'))).toBe(lines('a:1', 'b:2'));
});

test('members of a group are merged', () => {
  const merged = mergeAccounts(
    'etc/group',
    lines('adm:x:4:demo,gone', 'audio:x:29:'),
    lines('adm:x:4:demo,new', 'audio:x:29:'),
    lines('adm:x:4:demo,gone,me', 'audio:x:29:me'),
  );
  expect(merged).toBe(lines('adm:x:4:demo,me,new', 'audio:x:29:me'));
});

test('the way back takes away what was added, and nothing else', () => {
  const [base, to] = [lines('root:0'), lines('root:0', 'new:1')];
  const live = lines('root:0', 'me:2');
  const after = mergeAccounts('etc/passwd', base, to, live);
  expect(mergeAccounts('etc/passwd', after, live, `${after}you:3\n`)).toBe(lines('root:0', 'me:2', 'you:3'));
});
