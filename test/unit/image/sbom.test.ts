import { Spec, Validation } from '@cyclonedx/cyclonedx-library';
import { describe, expect, test } from 'vitest';
import { licencesIn } from '../../../src/debian/copyright.ts';
import { knownVulnerabilities, parseTrackerData } from '../../../src/debian/security-tracker.ts';
import { installedPackages } from '../../../src/debian/status.ts';
import type { ImagePackage } from '../../../src/image/installed.ts';
import { billOfMaterials, packageUrl } from '../../../src/image/sbom.ts';
import { exampleManifest } from './example.ts';

const status = `Package: apt
Status: install ok installed
Architecture: amd64
Version: 3.0.4
Depends: adduser | base-passwd, libstdc++6 (>= 13.1), not-here
Description: commandline package manager
 This package provides...
Homepage: not a URL

Package: libstdc++6
Status: hold ok installed
Architecture: amd64
Source: gcc-14 (14.2.0-19)
Version: 14.2.0-19+b1
Provides: base-passwd (= 1)
Homepage: http://gcc.gnu.org/

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
`;
const installed: ImagePackage[] = installedPackages(status, 'status').map((each) => ({
  ...each,
  licences: each.name === 'apt' ? ['Expat', 'GPL-2+', 'curl & friends'] : undefined,
}));

const tracker = JSON.stringify({
  apt: {
    'CVE-2026-0001': {
      description: 'Open everywhere.',
      releases: { trixie: { status: 'open', urgency: 'medium**', nodsa: 'Minor issue' } },
    },
    'CVE-2026-0002': {
      releases: { trixie: { status: 'resolved', fixed_version: '3.0.4', urgency: 'low' } },
    },
    'CVE-2026-0003': { releases: { sid: { status: 'open', urgency: 'high' } } },
    'CVE-2026-0004': { releases: { trixie: { status: 'undetermined' } } },
    'CVE-2026-0005': { releases: { trixie: { status: 'resolved', fixed_version: '0' } } },
  },
  'gcc-14': {
    'CVE-2026-0006': {
      releases: {
        trixie: { status: 'resolved', fixed_version: '14.2.0-19+deb13u1', urgency: 'unimportant' },
      },
    },
  },
});

describe('what dpkg knows', () => {
  test('of what is installed', () => {
    expect(installed.map(({ name, source, sourceVersion }) => [name, source, sourceVersion])).toEqual([
      ['apt', 'apt', '3.0.4'],
      ['libstdc++6', 'gcc-14', '14.2.0-19'],
    ]);
    expect(installed[0]?.depends).toEqual([['adduser', 'base-passwd'], ['libstdc++6'], ['not-here']]);
  });

  test('package URLs escape what the specification wants escaped', () => {
    expect(installed.map((each) => packageUrl(each, 'trixie'))).toEqual([
      'pkg:deb/debian/apt@3.0.4?arch=amd64&distro=trixie',
      'pkg:deb/debian/libstdc%2B%2B6@14.2.0-19%2Bb1?arch=amd64&distro=trixie&upstream=gcc-14%4014.2.0-19',
    ]);
  });
});

describe('licences of a copyright file', () => {
  const head = 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n';

  test('are those of its files, not the texts behind them', () => {
    const text = `${head}License: Expat\n\nFiles: *\nCopyright: x\nLicense: GPL-2+\n text\n\nLicense: BSD-3-clause\n text\n`;
    expect(licencesIn(text)).toEqual(['Expat', 'GPL-2+']);
  });

  test('are not known where it is prose or broken', () => {
    expect(licencesIn('This package was debianized by ...\nLicense: GPL\n')).toBeUndefined();
    expect(licencesIn(`${head}no field\n`)).toBeUndefined();
    expect(licencesIn('')).toBeUndefined();
  });
});

describe('the security tracker', () => {
  const data = parseTrackerData(tracker, 'tracker.json');

  test('open counts for all versions, resolved for those before', () => {
    const { found, undetermined } = knownVulnerabilities(data, 'trixie', installed, 'tracker.json');
    expect(found.map(({ name, fixed }) => [name, fixed])).toEqual([
      ['CVE-2026-0001', undefined],
      ['CVE-2026-0006', '14.2.0-19+deb13u1'],
    ]);
    expect(undetermined).toBe(1);
  });

  test.each(['', '[]', '{}', '"x"', 'null'])('%j is none of its data', (text) => {
    expect(() => parseTrackerData(text, 'tracker.json')).toThrow(
      expect.objectContaining({ code: 'corrupt' }),
    );
  });

  test('another form of an issue is refused, not passed over', () => {
    const other = parseTrackerData('{"apt": {"CVE-2026-1": {"releases": []}}}', 'tracker.json');
    expect(() => knownVulnerabilities(other, 'trixie', installed, 'tracker.json')).toThrow(
      expect.objectContaining({ code: 'corrupt' }),
    );
  });
});

describe('a bill of materials', () => {
  const { found } = knownVulnerabilities(parseTrackerData(tracker, 't'), 'trixie', installed, 't');
  const text = billOfMaterials(exampleManifest, installed, found);
  // The schema of CycloneDX itself, and its own validator.
  const validator = new Validation.JsonStrictValidator(Spec.Version.v1dot6);

  test('is valid CycloneDX 1.6, with vulnerabilities and without', async () => {
    expect(await validator.validate(text)).toBeNull();
    expect(await validator.validate(billOfMaterials(exampleManifest, installed))).toBeNull();
    expect(await validator.validate(billOfMaterials(exampleManifest, []))).toBeNull();
  });

  test('the validator knows what is wrong', async () => {
    expect(await validator.validate(text.replace('"operating-system"', '"system"'))).not.toBeNull();
  });

  test('has digests of the manifest, licences, dependencies and what is affected', () => {
    const made = JSON.parse(text) as {
      readonly components: readonly Record<string, unknown>[];
      readonly dependencies: readonly { readonly ref: string; readonly dependsOn: readonly string[] }[];
      readonly vulnerabilities: readonly { readonly affects: readonly object[] }[];
    };
    const [apt, other] = made.components;
    expect(apt).toMatchObject({
      name: 'apt',
      hashes: [{ alg: 'SHA-256', content: '6'.repeat(64) }],
      licenses: [
        { license: { id: 'MIT' } },
        { license: { id: 'GPL-2.0-or-later' } },
        { license: { name: 'curl & friends' } },
      ],
    });
    expect(other).not.toHaveProperty('hashes');
    expect(made.components.map(({ name }) => name)).toEqual([
      'apt',
      'libstdc++6',
      `live/${'a'.repeat(16)}.squashfs`,
      `live/${'b'.repeat(16)}.squashfs`,
      'vmlinuz',
      'initrd.img',
    ]);
    expect(made.dependencies[1]?.dependsOn).toEqual([
      'pkg:deb/debian/libstdc%2B%2B6@14.2.0-19%2Bb1?arch=amd64&distro=trixie&upstream=gcc-14%4014.2.0-19',
    ]);
    expect(made.vulnerabilities.map(({ affects }) => affects.length)).toEqual([1, 1]);
  });

  test('is the same for the same image', () => {
    expect(billOfMaterials(exampleManifest, installed, found)).toBe(text);
  });
});
