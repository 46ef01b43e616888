import type { Context } from '../core/event.ts';
import type { Site } from '../site/site.ts';
import { lockedFiles } from './closure.ts';
import { writeVerification } from './list.ts';
import { verifiedPath } from './pool.ts';
import { layoutOf, lockMirror, type Repository } from './repository.ts';
import { repositoryTree } from './repository-tree.ts';
import { readVerified } from './verified.ts';
import { type VerifyOptions, type VerifySummary, verifyTree } from './verify.ts';

/**
 * Verifies what a site mirrors of a repository, with its snapshots, and remembers the outcome for `mirror list`.
 * @throws as `verifyTree`; ReliveError `not-found` where nothing of it is mirrored, `corrupt` (state)
 */
export async function verifyRepository(
  site: Pick<Site, 'mirror' | 'directory'>,
  repository: Repository,
  options: Omit<VerifyOptions, 'keyring' | 'fingerprints'>,
  context: Context,
): Promise<VerifySummary> {
  const layout = layoutOf(site.mirror, repository);
  // A sync that switches generations while they are read would look like damage.
  const lock = await lockMirror(layout, context);
  try {
    const tree = await repositoryTree(layout, repository, await lockedFiles(site.directory, repository.name));
    const record = await readVerified(verifiedPath(layout));
    const { signedBy, fingerprints } = repository;
    const whole = { ...options, keyring: signedBy, fingerprints };
    const summary = await verifyTree(tree, whole, record, () => undefined, context);
    if (options.sample === undefined) {
      await writeVerification(layout, {
        when: options.now.toISOString(),
        files: summary.ok + summary.skipped,
        bytes: summary.bytes,
        findings: summary.wrong,
      });
    }
    return summary;
  } finally {
    await lock.release();
  }
}
