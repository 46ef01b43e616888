import { expect, test } from 'vitest';
import { requireAddress } from '../../../src/commands/live-pull.ts';

test.each(['http://server:3143/store', 'https://server/store/'])('%s is asked', (address) => {
  expect(() => requireAddress(address)).not.toThrow();
});

test.each([
  ['ftp://server/store', 'is no address'],
  ['http://[server/store', 'is no address'],
  ['http://me:word@server/store', 'has a user or a password in it'],
  ['http://me@server/store', 'has a user or a password in it'],
])('%s is refused, without its password', (address, why) => {
  expect(() => requireAddress(address)).toThrow(why);
  expect(() => requireAddress(address)).not.toThrow('word@');
});
