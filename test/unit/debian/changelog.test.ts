import { expect, test } from 'vitest';
import { changelogEntries, fixedBetween } from '../../../src/debian/changelog.ts';

const text = `openssl (3.5.7-1~deb13u3) trixie-security; urgency=medium

  * CVE-2026-10021 (Out-of-bounds read), CVE-2026-9 is none
  * (CVE-2026-2345)

 -- A Maintainer <a@example.org>  Sat, 21 Nov 2026 10:00:00 +0100

openssl (3.5.7-1~deb13u2) trixie-security; urgency=medium

  * CVE-2025-9999: a fix. Closes: #1

 -- A Maintainer <a@example.org>  Sat, 07 Nov 2026 10:00:00 +0100

openssl (3.5.7-1) unstable; urgency=medium, binary-only=yes

  * New upstream version. CVE-2024-1111

 -- A Maintainer <a@example.org>  Sat, 01 Nov 2025 10:00:00 +0100
`;

test('entries by their headings', () => {
  expect(changelogEntries(`a line before\n${text}`).map(({ version }) => version)).toEqual([
    '3.5.7-1~deb13u3',
    '3.5.7-1~deb13u2',
    '3.5.7-1',
  ]);
  expect(changelogEntries('')).toEqual([]);
});

test('what was fixed since a version, up to another', () => {
  const entries = changelogEntries(text);
  expect(fixedBetween(entries, '3.5.7-1~deb13u1', '3.5.7-1~deb13u3')).toEqual([
    'CVE-2025-9999',
    'CVE-2026-2345',
    'CVE-2026-10021',
  ]);
  expect(fixedBetween(entries, '3.5.7-1~deb13u2', '3.5.7-1~deb13u3')).not.toContain('CVE-2025-9999');
  expect(fixedBetween(entries, '3.5.7-1~deb13u1', '3.5.7-1~deb13u2')).toEqual(['CVE-2025-9999']);
  expect(fixedBetween(entries, '3.5.7-1~deb13u3', '3.5.7-1~deb13u3')).toEqual([]);
});
