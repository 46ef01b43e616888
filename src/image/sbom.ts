import { createHash } from 'node:crypto';
import type { Vulnerability } from '../debian/security-tracker.ts';
import { sha256 } from '../host/files.ts';
import type { ImagePackage } from './installed.ts';
import { formatManifest, layerFile, type Manifest } from './manifest.ts';

/** The short names of Debian's copyright files for licences that have another name with SPDX. */
const spdxNames: Readonly<Record<string, string>> = {
  'Apache-2': 'Apache-2.0',
  Artistic: 'Artistic-1.0-Perl',
  'BSD-2-clause': 'BSD-2-Clause',
  'BSD-3-clause': 'BSD-3-Clause',
  'BSD-4-clause': 'BSD-4-Clause',
  Expat: 'MIT',
  'GFDL-1.3+': 'GFDL-1.3-or-later',
  'GPL-1+': 'GPL-1.0-or-later',
  'GPL-2': 'GPL-2.0-only',
  'GPL-2+': 'GPL-2.0-or-later',
  'GPL-2.0+': 'GPL-2.0-or-later',
  'GPL-3': 'GPL-3.0-only',
  'GPL-3+': 'GPL-3.0-or-later',
  'GPL-3.0+': 'GPL-3.0-or-later',
  ISC: 'ISC',
  'LGPL-2': 'LGPL-2.0-only',
  'LGPL-2+': 'LGPL-2.0-or-later',
  'LGPL-2.1': 'LGPL-2.1-only',
  'LGPL-2.1+': 'LGPL-2.1-or-later',
  'LGPL-3': 'LGPL-3.0-only',
  'LGPL-3+': 'LGPL-3.0-or-later',
  Zlib: 'Zlib',
};

/**
 * The package URL of a Debian package (https://github.com/package-url/purl-spec, type deb), with the qualifier `upstream` that
 * scanners look its source package up by.
 */
export function packageUrl(
  each: Pick<ImagePackage, 'name' | 'version' | 'architecture'> & Partial<ImagePackage>,
  suite: string,
): string {
  const { name, version, architecture, source = name, sourceVersion = version } = each;
  const upstream =
    source === name && sourceVersion === version
      ? []
      : [`upstream=${encodeURIComponent(sourceVersion === version ? source : `${source}@${sourceVersion}`)}`];
  const qualifiers = [
    `arch=${encodeURIComponent(architecture)}`,
    `distro=${encodeURIComponent(suite)}`,
    ...upstream,
  ];
  return `pkg:deb/debian/${encodeURIComponent(name)}@${encodeURIComponent(version)}?${qualifiers.join('&')}`;
}

/** A UUID that is always the same for the same text. */
function uuidOf(text: string): string {
  const hex = createHash('sha256').update(text).digest('hex');
  const variant = ((Number.parseInt(hex.slice(16, 17), 16) & 3) | 8).toString(16);
  // Version 8 of RFC 9562: made as its maker likes.
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `8${hex.slice(13, 16)}`,
    `${variant}${hex.slice(17, 20)}`,
    hex.slice(20, 32),
  ].join('-');
}

function licenceOf(name: string): { readonly license: { readonly id: string } | { readonly name: string } } {
  const id = Object.hasOwn(spdxNames, name) ? spdxNames[name] : undefined;
  return { license: id === undefined ? { name } : { id } };
}

const sha256Of = (content: string): { readonly alg: string; readonly content: string } => ({
  alg: 'SHA-256',
  content,
});
const propertiesOf = (values: Readonly<Record<string, string | undefined>>): object[] =>
  Object.entries(values).flatMap(([name, value]) =>
    value === undefined ? [] : [{ name: `relive:${name}`, value }],
  );

const severities: Readonly<Record<string, string>> = {
  unimportant: 'info',
  low: 'low',
  medium: 'medium',
  high: 'high',
};

/** A package of the manifest, of the image's own dpkg, or of both. */
type Part = Pick<ImagePackage, 'name' | 'version' | 'architecture'> &
  Partial<ImagePackage> & { readonly repository?: string; readonly sha256?: string };

function partsOf(manifest: Manifest, installed: readonly ImagePackage[]): Part[] {
  const key = ({ name, version }: Pick<Part, 'name' | 'version'>): string => `${name} ${version}`;
  const parts = new Map<string, Part>(installed.map((each) => [key(each), each]));
  // The lock has the architecture that packages are for, "all" too; what dpkg says counts.
  for (const each of manifest.packages) parts.set(key(each), { ...each, ...parts.get(key(each)) });
  return [...parts.values()].toSorted((a, b) => (key(a) < key(b) ? -1 : 1));
}

function componentOf(part: Part, suite: string): object {
  const { name, version, licences, summary, homepage } = part;
  const url = packageUrl(part, suite);
  return {
    type: 'library',
    'bom-ref': url,
    ...{ name, version },
    ...(summary === undefined ? {} : { description: summary }),
    ...(part.sha256 === undefined ? {} : { hashes: [sha256Of(part.sha256)] }),
    ...(licences === undefined ? {} : { licenses: licences.map((licence) => licenceOf(licence)) }),
    purl: url,
    ...(homepage !== undefined && URL.canParse(homepage)
      ? { externalReferences: [{ type: 'website', url: new URL(homepage).href }] }
      : {}),
    properties: propertiesOf({
      repository: part.repository,
      source: part.source,
      'source-version': part.sourceVersion,
    }),
  };
}

function fileComponent(name: string, digest: string, properties: Readonly<Record<string, string>>): object {
  return {
    type: 'file',
    'bom-ref': `file:${name}`,
    name,
    hashes: [sha256Of(digest)],
    properties: propertiesOf(properties),
  };
}

/** The files of an image: its layers, kernel and initrd. */
function filesOf({ layers, kernel, initrd }: Manifest): object[] {
  return [
    ...layers.map((layer) => fileComponent(`live/${layerFile(layer)}`, layer.digest, { layer: layer.role })),
    ...(kernel === null ? [] : [fileComponent('vmlinuz', kernel.digest, { kernel: kernel.version })]),
    ...(initrd === null ? [] : [fileComponent('initrd.img', initrd.digest, {})]),
  ];
}

/** For each package the packages among these that it depends on; of alternatives those that are there. */
function dependenciesOf(
  parts: readonly Part[],
  suite: string,
): { readonly ref: string; readonly dependsOn: readonly string[] }[] {
  const brings = new Map<string, string>();
  for (const part of parts) for (const name of part.provides ?? []) brings.set(name, packageUrl(part, suite));
  for (const part of parts) brings.set(part.name, packageUrl(part, suite));
  return parts.map((part) => {
    const ref = packageUrl(part, suite);
    const found = (part.depends ?? []).flat().flatMap((name) => brings.get(name) ?? []);
    return { ref, dependsOn: [...new Set(found)].filter((other) => other !== ref).toSorted() };
  });
}

function vulnerabilityOf(
  { name, source, version, fixed, urgency, description, note }: Vulnerability,
  parts: readonly Part[],
  suite: string,
): object {
  const affected = parts.filter((part) => part.source === source && part.sourceVersion === version);
  const severity = severities[urgency.replace(/\*+$/, '')] ?? 'unknown';
  const origin = {
    name: 'Debian',
    url: `https://security-tracker.debian.org/tracker/${encodeURIComponent(name)}`,
  };
  return {
    'bom-ref': `${name} ${source}`,
    id: name,
    source: origin,
    ratings: [{ source: origin, severity, method: 'other' }],
    ...(description === undefined ? {} : { description }),
    ...(fixed === undefined ? {} : { recommendation: `${source} ${fixed} has it fixed` }),
    ...(note === undefined ? {} : { detail: note }),
    affects: affected.map((part) => ({ ref: packageUrl(part, suite) })),
  };
}

/**
 * The bill of materials of an image, as CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/): its packages, with digests where
 * the manifest has them, sources and licences, what depends on what, and the files it consists of. The same image gives the same text.
 * @param installed the packages as the image's own dpkg knows them
 * @param vulnerabilities what Debian's security tracker knows of them, if it was asked
 */
export function billOfMaterials(
  manifest: Manifest,
  installed: readonly ImagePackage[],
  vulnerabilities?: readonly Vulnerability[],
): string {
  const { image, suite, profile } = manifest;
  const parts = partsOf(manifest, installed);
  const files = filesOf(manifest);
  const digest = sha256(formatManifest(manifest));
  const dependencies = dependenciesOf(parts, suite);
  const document = {
    $schema: 'http://cyclonedx.org/schema/bom-1.6.schema.json',
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    serialNumber: `urn:uuid:${uuidOf(`${digest} ${JSON.stringify(vulnerabilities) ?? ''}`)}`,
    version: 1,
    metadata: {
      timestamp: new Date(manifest.sourceDateEpoch * 1000).toISOString(),
      tools: { components: [{ type: 'application', name: 'relive', version: manifest.relive }] },
      component: {
        type: 'operating-system',
        'bom-ref': image,
        name: profile.name,
        version: manifest.version,
        description: `Debian ${suite}, ${manifest.architecture}, for ${manifest.host}`,
        properties: propertiesOf({
          image,
          'manifest-sha256': digest,
          'tree-sha256': manifest.tree,
          'lock-sha256': manifest.lock,
          commit: profile.commit ?? undefined,
        }),
      },
    },
    components: [...parts.map((part) => componentOf(part, suite)), ...files],
    dependencies: [{ ref: image, dependsOn: dependencies.map(({ ref }) => ref) }, ...dependencies],
    ...(vulnerabilities === undefined
      ? {}
      : { vulnerabilities: vulnerabilities.map((each) => vulnerabilityOf(each, parts, suite)) }),
  };
  return `${JSON.stringify(document, undefined, 2)}\n`;
}
