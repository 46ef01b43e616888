import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Deb, publishArchive, writeTree } from '../test/fixtures/archive.ts';
import { debianKeyring } from '../test/fixtures/host-archive.ts';
import { makeSigningKey, type SigningKey } from '../test/fixtures/signing.ts';
import { cli } from './site.ts';

/*
 * Real upgrades, one at a time: a repository of our own on this disk has, of the security suite, the packages of one source. A
 * profile names it, and Debian's main suite, from the first build on, when there is nothing in it that the profile would take.
 */

const repository = 'upgrades';
/** The name of Debian's security suite among the repositories of a new site. */
const security = 'debian-security';

function relive(site: string, ...words: readonly string[]): void {
  execFileSync(process.execPath, [cli, ...words, '--site', site], { stdio: 'pipe' });
}

function readDeb(file: string): Deb {
  const control = execFileSync('dpkg-deb', ['--field', file], { encoding: 'utf8' });
  const field = (name: string): string => new RegExp(`^${name}: (.*)$`, 'm').exec(control)?.[1] ?? '';
  return { name: field('Package'), version: field('Version'), content: readFileSync(file), control };
}

/** Where a site gets its upgrades from. */
export interface Upgrades {
  /** Has the repository offer these packages and no others, and brings them into the mirror of the site. */
  readonly offer: (packages: readonly Deb[]) => void;
  readonly remove: () => void;
}

/** Adds the repository to a site, empty, and has its profiles take their packages from it and from Debian's main suite. */
export function addUpgrades(site: string, work: string): Upgrades {
  const key: SigningKey = makeSigningKey('Bench');
  const root = join(work, 'upstream');
  mkdirSync(root);
  const configuration = join(site, 'relive.yaml');
  const block = `  ${repository}:
    url: [${JSON.stringify(pathToFileURL(root).href)}]
    suites: [trixie-upgrades]
    components: [main]
    architectures: [amd64]
    signedBy: ${key.keyring}
    select: all
`;
  writeFileSync(configuration, `${readFileSync(configuration, 'utf8').trimEnd()}\n${block}`);
  const offer = (debs: readonly Deb[]): void => {
    const files = new Map<string, Buffer>();
    publishArchive(files, 'trixie-upgrades', key, { debs, date: new Date() });
    rmSync(join(root, 'dists'), { recursive: true, force: true });
    writeTree(root, files);
    relive(site, 'mirror', 'sync', repository);
  };
  offer([]);
  return { offer, remove: () => key.remove() };
}

/** Has a profile take its packages from Debian's main suite and the upgrades. */
export function takeUpgrades(site: string, profile: string): void {
  const file = join(site, `profiles/${profile}.yaml`);
  const text = readFileSync(file, 'utf8');
  writeFileSync(file, text.replace(/^repositories: .*/m, `repositories: [debian, ${repository}]`));
}

/**
 * Packages of Debian's security suite, as relive mirrors them.
 * @param names `*` stands for any characters
 */
export function securityPackages(site: string, names: readonly string[]): Deb[] {
  const file = join(site, 'relive.yaml');
  const before = readFileSync(file, 'utf8');
  const url = new RegExp(`^  ${security}:\n    url: (.*)$`, 'm').exec(before)?.[1] ?? '';
  const block = `  newer:
    url: ${url}
    suites: [trixie-security]
    components: [main]
    architectures: [amd64]
    signedBy: ${debianKeyring}
    select: filters
    filters: {names: ${JSON.stringify(names)}}
`;
  writeFileSync(file, `${before.trimEnd()}\n${block}`);
  try {
    relive(site, 'mirror', 'sync', 'newer');
  } finally {
    writeFileSync(file, before);
  }
  const pool = join(site, 'mirror/newer/pool');
  const paths = readdirSync(pool, { recursive: true, encoding: 'utf8' });
  return paths.filter((path) => path.endsWith('.deb')).map((path) => readDeb(join(pool, path)));
}
