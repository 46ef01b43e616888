import { expect, test } from 'vitest';
import { type PackageEntry, packagesReader } from '../../../src/debian/packages.ts';

const good = {
  Package: 'g++',
  Version: '4:14.2.0-1',
  Architecture: 'amd64',
  Filename: './pool/g/g++_14.2.0-1_amd64.deb',
  Size: '1356',
  SHA256: 'A'.repeat(64),
};

function read(stanza: Readonly<Record<string, string | undefined>>): PackageEntry[] {
  const found: PackageEntry[] = [];
  const reader = packagesReader('Packages', (entry) => found.push(entry));
  const lines = Object.entries(stanza).flatMap(([field, value]) =>
    value === undefined ? [] : `${field}: ${value}`,
  );
  reader.push(Buffer.from(`Package-Type: deb\n${lines.join('\n')}\n\n`));
  reader.end();
  return found;
}

test('gives what is needed of a package', () => {
  expect(read(good)).toEqual([
    {
      package: 'g++',
      version: '4:14.2.0-1',
      architecture: 'amd64',
      filename: 'pool/g/g++_14.2.0-1_amd64.deb',
      size: 1356,
      sha256: 'a'.repeat(64),
      sha512: undefined,
      more: [],
    },
  ]);
  expect(read({ ...good, SHA256: undefined, SHA512: 'b'.repeat(128) })[0]?.sha512).toBe('b'.repeat(128));
});

test.each([
  [{ Filename: '../../etc/cron.d/x' }, 'names the path'],
  [{ Filename: undefined }, 'Packages:1: a package lacks'],
  [{ Size: '12x' }, 'Size'],
  [{ Size: undefined }, 'Size'],
  [{ SHA256: undefined }, 'neither'],
  [{ SHA256: 'abc' }, 'wrong SHA256'],
])('refuses a package with %j', (change, message) => {
  expect(() => read({ ...good, ...change })).toThrow(message);
});
