import { describe, expect, test } from 'vitest';
import { parseRelease, parseReleaseDate, strongestDigest } from '../../../src/debian/release.ts';

const a64 = 'a'.repeat(64);
const b64 = 'B'.repeat(64);
const c128 = 'c'.repeat(128);

function release(lines: readonly string[]): Buffer {
  return Buffer.from(`${lines.join('\n')}\n`);
}

const head = [
  'Origin: Debian',
  'Suite: stable',
  'Codename: trixie',
  'Date: Sat, 12 Sep 2026 07:55:41 UTC',
  'Acquire-By-Hash: yes',
  'No-Support-for-Architecture-all: Packages',
  'Architectures: all amd64  arm64',
  'Components: main contrib',
];

describe('parseRelease', () => {
  test('reads the fields and both hash sections, MD5 not at all', () => {
    const parsed = parseRelease(
      release([
        ...head,
        'Valid-Until: Sat, 19 Sep 2026 07:55:41 UTC',
        'MD5Sum:',
        ` ${'0'.repeat(32)}  7 only/in/md5`,
        'SHA256:',
        ` ${a64}    10 main/binary-amd64/Packages`,
        ` ${b64} 5 main/with space`,
        'SHA512:',
        ` ${c128} 10 main/binary-amd64/Packages`,
      ]),
      'InRelease',
    );
    expect(parsed).toMatchObject({
      origin: 'Debian',
      label: undefined,
      suite: 'stable',
      codename: 'trixie',
      architectures: ['all', 'amd64', 'arm64'],
      components: ['main', 'contrib'],
      acquireByHash: true,
      allIsInEveryArchitecture: true,
    });
    expect(parsed.date.toISOString()).toBe('2026-09-12T07:55:41.000Z');
    expect(parsed.validUntil?.toISOString()).toBe('2026-09-19T07:55:41.000Z');
    expect([...parsed.files.values()]).toEqual([
      { path: 'main/binary-amd64/Packages', size: 10, sha256: a64, sha512: c128 },
      { path: 'main/with space', size: 5, sha256: b64.toLowerCase(), sha512: undefined },
    ]);
  });

  test('is content with SHA-512 alone', () => {
    const parsed = parseRelease(release([...head, 'SHA512:', ` ${c128} 1 Packages`]), 'Release');
    const file = parsed.files.get('Packages');
    expect(file && strongestDigest(file)).toEqual({ algorithm: 'sha512', value: c128 });
  });

  test.each([
    ['neither', head],
    ['neither', [...head, 'MD5Sum:', ` ${'0'.repeat(32)} 1 x`, 'SHA1:', ` ${'0'.repeat(40)} 1 x`]],
    ['no Date', [...head.filter((line) => !line.startsWith('Date')), 'SHA256:', ` ${a64} 1 x`]],
    ['Valid-Until', [...head, 'Valid-Until: tomorrow', 'SHA256:', ` ${a64} 1 x`]],
    ['one stanza', [...head, 'SHA256:', ` ${a64} 1 x`, '', 'Date: Sat, 12 Sep 2026 07:55:41 UTC']],
    ['contradicts', [...head, 'SHA256:', ` ${a64} 1 x`, ` ${b64} 1 x`]],
    ['contradicts', [...head, 'SHA256:', ` ${a64} 1 x`, 'SHA512:', ` ${c128} 2 x`]],
    ['not "digest size path"', [...head, 'SHA256:', ` ${a64.slice(1)} 1 x`]],
    ['not "digest size path"', [...head, 'SHA256:', ` ${a64} -1 x`]],
    ['refused', [...head, 'SHA256:', ` ${a64} 1 ../x`]],
    ['twice', [...head, 'Date: Sat, 12 Sep 2026 07:55:41 UTC', 'SHA256:', ` ${a64} 1 x`]],
  ])('says "%s" of what is wrong', (message, lines) => {
    expect(() => parseRelease(release(lines), 'InRelease')).toThrow(message);
  });
});

test.each([
  ['Fri,  1 May 2026 7:05:09 UTC', '2026-05-01T07:05:09.000Z'],
  ['1 May 2026 17:05:09 +0000', '2026-05-01T17:05:09.000Z'],
  ['Fri, 01 May 2026 17:05:09 GMT', '2026-05-01T17:05:09.000Z'],
])('%s is read', (text, expected) => {
  expect(parseReleaseDate(text)?.toISOString()).toBe(expected);
});

test.each([
  '',
  'Sat, 12 Sep 2026 07:55:41 CEST',
  '12 Foo 2026 07:55:41 UTC',
  '31 Feb 2026 07:55:41 UTC',
  '12 Sep 2026 24:61:00 UTC',
  '2026-09-12',
])('the date %j is refused', (text) => {
  expect(parseReleaseDate(text)).toBeUndefined();
});
