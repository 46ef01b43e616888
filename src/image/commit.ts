import { isReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { run } from '../host/process.ts';
import { findTool } from '../host/tools.ts';

/**
 * The commit of the git repository that keeps a site, with `-dirty` where a committed file was changed since; null
 * where relive.yaml is in no repository.
 */
export async function siteCommit(directory: string, context: Context): Promise<string | null> {
  if (findTool('git') === undefined) return null;
  const git = async (...args: string[]): Promise<string> => {
    // The site may belong to another user than root: reading its state runs none of its hooks or filters.
    const settings = ['-c', `safe.directory=*`, '-c', 'core.fsmonitor=false', '-C', directory];
    return (await run('git', [...settings, ...args], context)).stdout.trim();
  };
  try {
    await git('ls-files', '--error-unmatch', 'relive.yaml');
    const commit = await git('rev-parse', 'HEAD');
    const changed = await git('status', '--porcelain', '--untracked-files=no', '--', '.');
    return changed === '' ? commit : `${commit}-dirty`;
  } catch (error) {
    if (isReliveError(error, 'tool-failed')) return null;
    throw error;
  }
}
