import { type LiveStatus, liveStatus } from '../live/status.ts';
import { formatBytes, formatTable, printableLine } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { type Call, optionValue } from './command.ts';

/** More entries than this are for a program, or for --all. */
const shown = 20;
const shownInterruptions = 5;
const signs = { added: '+', removed: '-', changed: '*' } as const;
const places = {
  none: 'read from the medium',
  layers: 'layers copied to RAM',
  unpacked: 'unpacked in RAM',
} as const;

function indented(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : [`${title}:`, ...lines.map((line) => `  ${line}`)];
}

function textOf(status: LiveStatus, all: boolean): string {
  const { memory, entries, applied } = status;
  const listed = all ? entries : entries.slice(0, shown);
  const facts = [
    ['image', status.image + (status.parent === null ? '' : `, made on ${status.parent}`)],
    ['since', status.booted],
    ...(status.switched === null
      ? []
      : [['switched', `${status.switched.at}; a restart is into ${status.switched.booted}`]]),
    ...(applied === null
      ? []
      : [['applied', `${applied.image} at ${applied.at}${applied.complete ? '' : ', cut off'}`]]),
    ['runs', `${places[status.ram]}${memory.image === 0 ? '' : `, ${formatBytes(memory.image)}`}`],
    ['written', `${formatBytes(memory.written)} in RAM, room for ${formatBytes(memory.free)}`],
    ['store', status.store ?? 'none at hand'],
  ];
  return [
    formatTable(facts),
    ...indented(
      'layers',
      formatTable(
        status.layers.map(({ role, digest, size }) => [role, digest.slice(0, 16), formatBytes(size)]),
      ).split('\n'),
    ),
    ...indented('changed since the boot', [
      ...listed.map(({ path, kind, size }) =>
        printableLine(`${signs[kind]} ${path}${kind === 'removed' ? '' : `  (${formatBytes(size)})`}`),
      ),
      ...(entries.length > listed.length
        ? [`and ${entries.length - listed.length} more: --all lists them`]
        : []),
      ...(status.work.files === 0
        ? []
        : [
            `and ${status.work.files} files of running programs, ${formatBytes(status.work.bytes)} (logs, caches)`,
          ]),
    ]),
    ...indented(
      'volumes',
      status.volumes.map(({ name, state }) => printableLine(`${name}: ${state}`)),
    ),
    ...indented(
      'newer images',
      status.newer.map(
        ({ image, read, disturbance, demands }) =>
          `${image}: reads ${formatBytes(read)}; asks for: ${disturbance}${
            demands.length === 0 ? '' : ` (${demands.map(({ why }) => why).join('; ')})`
          }`,
      ),
    ),
    ...indented('a restart is wanted', status.restart),
    ...indented(
      'interruptions by relive, the last ones',
      status.interruptions
        .slice(-shownInterruptions)
        .map(({ kind, milliseconds }) => `${kind}: ${(milliseconds / 1000).toFixed(1)} s`),
    ),
  ].join('\n');
}

export async function run(call: Call): Promise<CommandResult> {
  const status = await liveStatus(optionValue(call, 'store'), call.context);
  return { ok: true, data: { ...status }, text: textOf(status, call.options['all'] === true) };
}
