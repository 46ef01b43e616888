import { expect, test } from 'vitest';
import { type Call, optionalArgument, optionValue, requiredArgument } from '../../../src/commands/command.ts';
import { recordingContext } from '../../support.ts';

const call: Call = {
  context: recordingContext(),
  confirm: async () => await Promise.resolve(false),
  siteDirectory: '/site',
  arguments: ['demo', undefined, ['a', 'b']],
  options: { iso: true, output: 'file' },
};

test('an argument that the table requires is there, or the table is wrong', () => {
  expect(requiredArgument(call, 0)).toBe('demo');
  expect(() => requiredArgument(call, 1)).toThrow('argument 1 is not a string');
});

test('an argument that may be left out', () => {
  expect(optionalArgument(call, 0)).toBe('demo');
  expect(optionalArgument(call, 1)).toBeUndefined();
  expect(() => optionalArgument(call, 2)).toThrow('argument 2 is not a string');
});

test('an option with a value', () => {
  expect(optionValue(call, 'output')).toBe('file');
  expect(optionValue(call, 'iso')).toBeUndefined();
  expect(optionValue(call, 'none')).toBeUndefined();
});
