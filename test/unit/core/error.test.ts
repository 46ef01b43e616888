import { expect, test } from 'vitest';
import {
  isReliveError,
  messageOf,
  ReliveError,
  systemCode,
  withoutPasswords,
} from '../../../src/core/error.ts';

test.each([
  ['usage', 2],
  ['configuration', 2],
  ['not-root', 2],
  ['unknown-package', 2],
  ['tool-failed', 3],
  ['disk-full', 3],
  ['not-authentic', 3],
  ['bug', 3],
  ['interrupted', 130],
] as const)('%s ends a command with status %i', (code, status) => {
  expect(new ReliveError(code, 'm').exitStatus).toBe(status);
});

test('an error carries its hint and its cause', () => {
  const cause = new Error('below');
  const error = new ReliveError('corrupt', 'm', { hint: 'h', cause });
  expect(error).toMatchObject({ name: 'ReliveError', code: 'corrupt', message: 'm', hint: 'h', cause });
});

test('errors are told apart by their codes', () => {
  const error = new ReliveError('corrupt', 'm');
  expect(isReliveError(error)).toBe(true);
  expect(isReliveError(error, 'corrupt', 'locked')).toBe(true);
  expect(isReliveError(error, 'locked')).toBe(false);
  expect(isReliveError(new Error('m'))).toBe(false);
});

test('the code of a system error, and the message of anything', () => {
  expect(systemCode(Object.assign(new Error('m'), { code: 'ENOENT' }))).toBe('ENOENT');
  expect(systemCode({ code: 'ENOENT' })).toBeUndefined();
  expect(messageOf(new Error('m'))).toBe('m');
  expect(messageOf('text')).toBe('text');
});

test.each([
  ['from http://user:word@host/debian, gone', 'from http://***@host/debian, gone'],
  ['{"url":"https://user:wo@rd@host:8443"}', '{"url":"https://***@host:8443"}'],
  ["two: 'ftp://a:b@c' rsync://d:e@f/g", "two: 'ftp://***@c' rsync://***@f/g"],
  ['http://host/a@b and me@host', 'http://host/a@b and me@host'],
])('passwords of addresses are taken out: %s', (text, expected) => {
  expect(withoutPasswords(text)).toBe(expected);
  const { message, hint } = new ReliveError('usage', text, { hint: text });
  expect({ message, hint }).toEqual({ message: expected, hint: expected });
});
