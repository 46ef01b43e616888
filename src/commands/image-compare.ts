import { compareCompressions, type Packed } from '../image/compare.ts';
import { formatBytes, formatSeconds, formatTable } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadProfile } from '../site/profile.ts';
import { loadSite } from '../site/site.ts';
import { type Call, requiredArgument } from './command.ts';

/** Who can boot a system from it, in words. */
function bootedBy({ readers }: Packed): string {
  if (readers.length === 0) return 'unpacking into RAM (boot.ram: unpacked)';
  return readers.includes('grub') ? 'the kernel; GRUB reads it, too' : 'the kernel';
}

export async function run(call: Call): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  const profile = await loadProfile(site, requiredArgument(call, 0));
  const options = { offline: call.options['offline'] === true, locked: false };
  const rows = await compareCompressions(site, profile, options, call.context);
  return {
    ok: true,
    data: { profile: profile.name, compressions: rows },
    text: formatTable([
      ['COMPRESSION', 'LEVEL', 'SIZE', 'PACKING', 'READING', 'BOOTED BY'],
      ...rows.map((row) => [
        row.algorithm,
        row.level === undefined ? '-' : String(row.level),
        formatBytes(row.bytes),
        formatSeconds(row.packSeconds),
        `${formatSeconds(row.readSeconds)}${row.readBy === 'kernel' ? '' : ' (unpacking)'}`,
        bootedBy(row),
      ]),
    ]),
  };
}
