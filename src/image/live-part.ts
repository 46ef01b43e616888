import { chmod, cp, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { stringify } from 'yaml';
import { ReliveError } from '../core/error.ts';
import { home } from '../core/home.ts';
import { exists, makeDirectories } from '../host/files.ts';
import { mountMarker, outsideIsParent } from '../host/namespace.ts';
import type { Profile } from '../site/profile.ts';
import type { Site } from '../site/site.ts';
import { trustedKeys } from './keys.ts';

/** Where relive lies in a system (docs/packaging.md), from its root. */
const installed = 'usr/share/relive';
/** The public keys that a live machine checks images with, from its root. */
const keysFile = 'etc/relive/keys.asc';
/** What `relive live pull` reads (src/live/configuration.ts), from the root of a system. */
const configurationFile = 'etc/relive/live.yaml';
/**
 * Debian's own Node.js, as in relive's own package (packaging/relive). A command that mounts goes into a mount namespace of its
 * own before that starts (src/host/namespace.ts, enterMountNamespace), since on a slow machine another start takes seconds; so do
 * the many collections of garbage with which V8 finds out that it needs more than a megabyte for what is young.
 */
const starter = `#!/bin/sh
set -- /usr/bin/node --min-semi-space-size=16 /usr/share/relive/dist/cli.cjs "$@"
case "$4 $5" in
"live apply" | "live plan" | "live undo")
	# Whoever is not root is told so by the command itself.
	[ -O / ] && [ -z "$${mountMarker}" ] &&
		${mountMarker}=${outsideIsParent} exec /usr/bin/unshare --mount --propagation private -- "$@"
	;;
esac
exec "$@"
`;

/**
 * Writes what `relive live` needs in a system into `directory`, as it will lie there: the compiled code and what it
 * reads, the command, and the public keys of the site, which is not there itself. relive's own package is no way: it depends
 * on all that builds images. Where the system builds images that package is there, and the keys alone are written.
 * @throws ReliveError `host-unable` where this relive has no compiled code; `not-found` where the site has no keys
 */
export async function writeLivePart(
  site: Pick<Site, 'keys'>,
  { factory, pull }: Pick<Profile, 'factory' | 'pull'>,
  directory: string,
): Promise<void> {
  const put = async (path: string, text: string, mode: number): Promise<void> => {
    const file = join(directory, path);
    await makeDirectories(dirname(file), 0o755);
    await writeFile(file, text);
    await chmod(file, mode);
  };
  await put(keysFile, await trustedKeys(site), 0o644);
  if (pull !== undefined) {
    const { daily: _, ...configuration } = pull;
    await put(configurationFile, stringify(configuration), 0o644);
  }
  if (factory) return;
  if (!(await exists(join(home, 'dist/cli.cjs')))) {
    throw new ReliveError(
      'host-unable',
      `a system with "live: true" takes along ${home}/dist, which is not there`,
      {
        hint: 'npm run build makes it',
      },
    );
  }
  for (const part of ['dist', 'runtime']) {
    await cp(join(home, part), join(directory, installed, part), { recursive: true });
  }
  await put('usr/bin/relive', starter, 0o755);
}
