import { z } from 'zod';
import { ReliveError } from '../core/error.ts';
import { compareVersions, isVersion } from './version.ts';

/** A vulnerability that a source package of a release is known to have. */
export interface Vulnerability {
  /** A CVE identifier, or the tracker's own (TEMP-...). */
  readonly name: string;
  readonly source: string;
  readonly version: string;
  /** The first version of the release that does not have it; undefined where there is none yet. */
  readonly fixed: string | undefined;
  /** As Debian judges it: unimportant, low, medium, high, not yet assigned, end-of-life. */
  readonly urgency: string;
  readonly description: string | undefined;
  /** Why there is no advisory for it. */
  readonly note: string | undefined;
}

export interface TrackerAnswer {
  readonly found: readonly Vulnerability[];
  /** Of how many issues the tracker does not know whether the release has them. */
  readonly undetermined: number;
}

/** What is asked of the tracker: a source package in the version that is installed. */
export interface SourceVersion {
  readonly source: string;
  readonly sourceVersion: string;
}

const issueSchema = z.looseObject({
  description: z.string().optional(),
  releases: z.record(
    z.string(),
    z.looseObject({
      status: z.string(),
      fixed_version: z.string().optional(),
      urgency: z.string().optional(),
      nodsa: z.string().optional(),
    }),
  ),
});
const sourceSchema = z.record(z.string(), issueSchema);

/** The data of https://security-tracker.debian.org/tracker/data/json: by source package, then by issue. */
export type TrackerData = Readonly<Record<string, unknown>>;

/** @throws ReliveError `corrupt` for what is not the tracker's data */
export function parseTrackerData(text: string, file: string): TrackerData {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ReliveError('corrupt', `${file} is not JSON`, { cause: error });
  }
  const parsed = z.record(z.string(), z.unknown()).safeParse(value);
  if (parsed.success && Object.keys(parsed.data).length > 0) return parsed.data;
  throw new ReliveError('corrupt', `${file} is not data of Debian's security tracker`, {
    hint: 'it is https://security-tracker.debian.org/tracker/data/json that is wanted',
  });
}

/**
 * What the tracker knows of these source packages in a release, by package, then by issue. `open` counts for every version of
 * the release, `resolved` for those before the one that fixed it; "0" says that no version of the release had it.
 * @throws ReliveError `corrupt`
 */
export function knownVulnerabilities(
  data: TrackerData,
  suite: string,
  sources: readonly SourceVersion[],
  file: string,
): TrackerAnswer {
  const found: Vulnerability[] = [];
  let undetermined = 0;
  const asked = new Map(sources.map((each) => [`${each.source} ${each.sourceVersion}`, each]));
  for (const { source, sourceVersion } of asked.values()) {
    const issues = sourceSchema.safeParse(Object.hasOwn(data, source) ? data[source] : {});
    if (!issues.success) {
      throw new ReliveError('corrupt', `${file}: what it has of ${source} has another form than expected`, {
        cause: issues.error,
      });
    }
    for (const [name, { description, releases }] of Object.entries(issues.data)) {
      const release = Object.hasOwn(releases, suite) ? releases[suite] : undefined;
      if (release === undefined) continue;
      const fixed = release.fixed_version === '' ? undefined : release.fixed_version;
      const unclear = fixed !== undefined && !isVersion(fixed);
      if (release.status === 'undetermined' || (release.status === 'resolved' && unclear)) undetermined += 1;
      else if (
        release.status === 'open' ||
        (release.status === 'resolved' && fixed !== undefined && compareVersions(sourceVersion, fixed) < 0)
      ) {
        found.push({
          ...{ name, source, description },
          version: sourceVersion,
          fixed: release.status === 'resolved' ? fixed : undefined,
          urgency: release.urgency ?? 'not yet assigned',
          note: release.nodsa,
        });
      }
    }
  }
  const key = ({ source, name }: Vulnerability): string => `${source} ${name}`;
  return { found: found.toSorted((a, b) => (key(a) < key(b) ? -1 : 1)), undetermined };
}
