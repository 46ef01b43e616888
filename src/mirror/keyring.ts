import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { ReliveError, systemCode } from '../core/error.ts';
import { writeFileAtomic } from '../host/files.ts';
import { isArmoured } from '../host/gpgv.ts';
import type { Layout, Repository } from './repository.ts';

/** The keyring of a repository: a path that apt takes in `signed-by`, and what is in it. */
export interface RepositoryKeyring {
  readonly path: string;
  readonly content: Buffer;
}

/**
 * Finds the keyring of a repository. Keys that are given as text, or in a file whose name does not say that it is armoured
 * (apt goes by the name), are written beside the mirror's state.
 * @throws ReliveError `not-found`
 */
export async function keyringOf(layout: Layout, { name, signedBy }: Repository): Promise<RepositoryKeyring> {
  const write = async (content: Buffer): Promise<RepositoryKeyring> => {
    const path = join(layout.state, 'keyring.asc');
    const old = await readFile(path).catch(() => undefined);
    if (old?.equals(content) !== true) await writeFileAtomic(path, content);
    return { path, content };
  };
  if (isArmoured(signedBy)) {
    const lines = signedBy.split(/\r?\n/).map((line) => line.trim().replace(/^\.$/, ''));
    return await write(Buffer.from(`${lines.join('\n').trim()}\n`));
  }
  const path = resolve(signedBy);
  try {
    const content = await readFile(path);
    const misnamed = isArmoured(content.toString('latin1')) && !path.endsWith('.asc');
    return misnamed ? await write(content) : { path, content };
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    throw new ReliveError('not-found', `the keyring ${path} of the repository ${name} cannot be read`, {
      hint: "check signedBy in relive.yaml; Debian's own keys are in the package debian-archive-keyring",
      cause: error,
    });
  }
}
