import type { CommandResult } from '../report/reporter.ts';
import { resolveProfile } from '../site/profile.ts';
import { showProfile } from '../site/show.ts';
import { loadSite } from '../site/site.ts';
import { type Call, requiredArgument } from './command.ts';

export async function run(call: Call): Promise<CommandResult> {
  const resolved = await resolveProfile(await loadSite(call.siteDirectory), requiredArgument(call, 0));
  const { yaml, origins } = showProfile(resolved);
  const { name, digest } = resolved.profile;
  return {
    ok: true,
    data: { name, digest, profile: resolved.document, origins },
    text: `# ${name}, with all it inherits; digest ${digest}\n${yaml}`,
  };
}
