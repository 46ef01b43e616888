import { copyFile, lutimes } from 'node:fs/promises';
import { join } from 'node:path';
import { makeDirectories } from '../../host/files.ts';
import { type OwnPackage, packageHome } from '../../host/own-package.ts';
import type { Stage } from '../layers.ts';
import { entryInputs, overlayEntries, place } from './files.ts';

export interface FactoryOptions {
  readonly own: OwnPackage;
  /** A directory whose contents are copied onto the root: the site. */
  readonly files: string;
  readonly sourceDateEpoch: number;
}

/**
 * Makes the system one that builds images: installs relive, whose dependencies the stage before has brought, and puts
 * the site there. The package itself stays, so that the system can build further ones of its kind.
 */
export async function factoryStage({ own, files, sourceDateEpoch }: FactoryOptions): Promise<Stage> {
  const entries = await overlayEntries([files]);
  return {
    name: 'factory',
    inputs: { package: own.digest, entries: entryInputs(entries), sourceDateEpoch },
    work: async ({ root, chroot: enter }, context) => {
      const chroot = await enter();
      const kept = join(packageHome, own.name);
      const target = join(root, kept);
      await makeDirectories(join(root, packageHome));
      await copyFile(own.file, target);
      await lutimes(target, sourceDateEpoch, sourceDateEpoch);
      await chroot.run('dpkg', ['--force-unsafe-io', '--install', kept], {
        env: { SOURCE_DATE_EPOCH: String(sourceDateEpoch) },
        onLine: (message) => context.emit({ event: 'note', source: 'factory', message }),
      });
      for (const entry of entries) await place(entry, root, sourceDateEpoch);
    },
  };
}
