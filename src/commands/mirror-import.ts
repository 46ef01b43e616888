import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { ReliveError, systemCode } from '../core/error.ts';
import { run as runTool } from '../host/process.ts';
import { findTool } from '../host/tools.ts';
import { importConfiguration } from '../mirror/import.ts';
import type { CommandResult } from '../report/reporter.ts';
import { type Call, requiredArgument } from './command.ts';

/** The architecture of this machine in Debian's words; amd64 where there is no dpkg. */
async function hostArchitecture(call: Call): Promise<string> {
  if (findTool('dpkg') === undefined) return 'amd64';
  return (await runTool('dpkg', ['--print-architecture'], { signal: call.context.signal })).stdout.trim();
}

export async function run(call: Call): Promise<CommandResult> {
  const path = resolve(requiredArgument(call, 0));
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    throw new ReliveError('not-found', `${path} cannot be read (${systemCode(error) ?? ''})`, {
      cause: error,
    });
  }
  const { format, repositories, yaml, left } = importConfiguration(path, text, await hostArchitecture(call));
  const notes = left.map((line) => `#   ${line.replaceAll('\n', ' ')}`);
  return {
    ok: true,
    data: { format, repositories, left },
    text: [
      `# read from ${path} (${format})`,
      ...(notes.length === 0 ? [] : ['# not carried over:', ...notes]),
      yaml.trimEnd(),
    ].join('\n'),
  };
}
