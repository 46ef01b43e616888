import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { run } from '../host/process.ts';
import { findTool } from '../host/tools.ts';
import { archiveUrl } from './syntax.ts';

/** One index that apt is configured to fetch; the fields which apt learns from a Release file are empty before it has it. */
export interface IndexTarget {
  readonly url: string;
  readonly suite: string;
  readonly component: string;
  readonly origin: string;
  readonly label: string;
}

/** The archives of Debian that a host uses. */
export interface Archives {
  readonly debian?: string | undefined;
  readonly security?: string | undefined;
}

const fields = ['REPO_URI', 'RELEASE', 'COMPONENT', 'ORIGIN', 'LABEL'] as const;
const format = fields.map((field) => `$(${field})`).join('\t');

/** Debian's names for its suites, with which an archive is known that apt has not yet looked into. */
const debianSuites =
  /^(stable|oldstable|oldoldstable|testing|unstable|sid|buster|bullseye|bookworm|trixie|forky|duke)([-/].*)?$/;

/** Reads what `apt-get indextargets` prints in our format; apt leaves `$(FIELD)` where it does not know one. */
export function parseIndexTargets(output: string): IndexTarget[] {
  return output
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [url = '', suite = '', component = '', origin = '', label = ''] = line
        .split('\t')
        .map((value) => (value.startsWith('$(') ? '' : value));
      return { url: url.replace(/\/+$/, ''), suite, component, origin, label };
    });
}

function isSecurity({ url, suite, label }: IndexTarget): boolean {
  if (label !== '') return label === 'Debian-Security';
  return /[-/]security$/.test(suite) || url.endsWith('/debian-security');
}

/** Whether a target is of Debian's own archive: by what it says of itself, else by its suite, component and path. */
function isDebian({ url, suite, component, origin }: IndexTarget): boolean {
  if (component !== 'main') return false;
  if (origin !== '') return origin === 'Debian';
  return debianSuites.test(suite) && /\/debian(-security)?$/.test(url);
}

/** The first address of Debian's archive and of its security archive among index targets, which relive can use. */
export function archivesOf(targets: readonly IndexTarget[]): Archives {
  const usable = targets.filter((target) => isDebian(target) && archiveUrl.safeParse(target.url).success);
  return {
    debian: usable.find((target) => !isSecurity(target))?.url,
    security: usable.find(isSecurity)?.url,
  };
}

async function indexTargets(options: readonly string[], context: Context): Promise<IndexTarget[]> {
  const { stdout } = await run('apt-get', ['indextargets', ...options, '--format', format], {
    signal: context.signal,
    timeoutSeconds: 60,
    // The caller's own choice of a configuration is the host's configuration for this caller (apt.conf(5)).
    env: { APT_CONFIG: process.env['APT_CONFIG'] },
  });
  return parseIndexTargets(stdout);
}

/** Asks the host's apt (apt-get(8), indextargets) for Debian's archives; a host without apt, or with a broken one, has none. */
export async function hostArchives(context: Context): Promise<Archives> {
  if (findTool('apt-get') === undefined) return {};
  try {
    const fetched = await indexTargets([], context);
    // Without that option apt leaves out what `apt-get update` has not fetched: all of it on a fresh machine.
    const configured = await indexTargets(['--no-release-info'], context);
    const seen = new Set(fetched.map(({ url }) => url));
    return archivesOf([...fetched, ...configured.filter(({ url }) => !seen.has(url))]);
  } catch (error) {
    if (!(error instanceof ReliveError) || error.code === 'interrupted') throw error;
    context.emit({
      event: 'warning',
      message: `the host's apt does not tell its archives: ${error.message}`,
    });
    return {};
  }
}
