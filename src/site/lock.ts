import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { ReliveError } from '../core/error.ts';
import { ifThere } from '../host/files.ts';
import type { Profile } from './profile.ts';
import type { Site } from './site.ts';

const digest = z.string().regex(/^[0-9a-f]{64}$/);
const word = z.string().regex(/^[\x21-\x2e\x30-\x7e]+$/);

const packageSchema = z.strictObject({
  name: word,
  version: word,
  architecture: word,
  repository: word,
  /** Relative to the repository's root. */
  path: z.string().regex(/^[\x21-\x7e]+$/),
  /** Bytes. */
  size: z.int().nonnegative(),
  sha256: digest,
  /** Why it is in: `essential`, `profile`, `base`, or the package that needs it. */
  why: z.string(),
});

const lockSchema = z.strictObject({
  schema: z.literal(1),
  profile: word,
  suite: word,
  architecture: word,
  /** Changes with what the profile asks of the solver. */
  wishes: digest,
  /** What the repositories said of themselves when the packages were resolved. */
  repositories: z.array(
    z.strictObject({ name: word, suite: z.string(), date: z.iso.datetime(), release: digest }),
  ),
  /** The names of the packages that the bootstrap installs. */
  bootstrap: z.array(word),
  packages: z.array(packageSchema),
});

/** The exact packages which a profile resolved to. */
export type Lock = z.infer<typeof lockSchema>;
export type LockedPackage = Lock['packages'][number];

/** locks/NAME.ARCH.json of a profile. */
export function lockFile(
  site: Pick<Site, 'directory'>,
  { name, architecture }: Pick<Profile, 'name' | 'architecture'>,
): string {
  return join(site.directory, 'locks', `${name}.${architecture}.json`);
}

/**
 * The lock of a profile, or undefined where there is none yet.
 * @throws ReliveError `configuration` for a file that is no lock
 */
export async function readLock(
  site: Pick<Site, 'directory'>,
  profile: Pick<Profile, 'name' | 'architecture'>,
): Promise<Lock | undefined> {
  const file = lockFile(site, profile);
  const text = await ifThere(readFile(file, 'utf8'));
  return text === undefined ? undefined : parseLock(text, file);
}

/** @throws ReliveError `configuration` */
export function parseLock(text: string, file: string): Lock {
  const hint = `relive lock makes it anew; git shows what changed it`;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ReliveError('configuration', `${file} is not JSON`, { hint, cause: error });
  }
  const parsed = lockSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues
    .slice(0, 10)
    .map(({ path, message }) => `  ${path.join('.')}: ${message}`);
  throw new ReliveError('configuration', `${file} is not a lock:\n${problems.join('\n')}`, { hint });
}

function lines(items: readonly unknown[]): string {
  return items.map((item) => `    ${JSON.stringify(item)}`).join(',\n');
}

/** The text of a lock: a line a package, sorted by name, so that its differences read well. */
export function formatLock({ repositories, bootstrap, packages, ...rest }: Lock): string {
  const head = Object.entries(rest).map(
    ([key, value]) => `  ${JSON.stringify(key)}: ${JSON.stringify(value)},`,
  );
  return [
    '{',
    ...head,
    `  "repositories": [\n${lines(repositories)}\n  ],`,
    `  "bootstrap": ${JSON.stringify(bootstrap)},`,
    `  "packages": [\n${lines(packages)}\n  ]`,
    '}',
    '',
  ].join('\n');
}

/** What decides whether a package is the same. */
export type PackageVersion = Pick<LockedPackage, 'name' | 'version' | 'sha256'>;

/** What differs between two lists of packages. */
export interface LockChanges<Old = LockedPackage> {
  readonly added: readonly LockedPackage[];
  readonly removed: readonly Old[];
  readonly changed: readonly { readonly from: Old; readonly to: LockedPackage }[];
}

/** The packages that came, went or changed from those of a lock or an image (none: nothing was there) to a lock. */
export function compareLocks<Old extends PackageVersion>(
  old: { readonly packages: readonly Old[] } | undefined,
  now: Pick<Lock, 'packages'>,
): LockChanges<Old> {
  const before = new Map((old?.packages ?? []).map((each) => [each.name, each]));
  const after = new Map(now.packages.map((each) => [each.name, each]));
  const changed = [...after.values()].flatMap((to) => {
    const from = before.get(to.name);
    return from !== undefined && (from.version !== to.version || from.sha256 !== to.sha256)
      ? [{ from, to }]
      : [];
  });
  return {
    added: [...after.values()].filter(({ name }) => !before.has(name)),
    removed: [...before.values()].filter(({ name }) => !after.has(name)),
    changed,
  };
}
