import type { Failure, MediumReport, MirrorReport, ProfileReport, RefreshReport } from '../refresh/report.ts';
import { subjectOf } from '../refresh/report.ts';
import { formatBytes, formatSeconds, formatTable, printable, printableLine } from '../report/format.ts';
import { counted } from './mirror.ts';

/** A report that is read is short: the other packages are in the JSON, and in `image diff`. */
const mostPackages = 200;

const signs = { added: '+', removed: '-', upgraded: '~', downgraded: '~', replaced: '~' } as const;

function mirrorLine({ repository, published, files, bytes, removed, verified }: MirrorReport): string {
  const state = published?.length === 0 ? 'unchanged' : `published ${published?.join(', ')}`;
  const parts = [
    published === undefined ? 'not synchronised' : state,
    ...(files === 0 ? [] : [`${counted(files, 'file')} (${formatBytes(bytes)}) brought`]),
    ...(removed === 0 ? [] : [`${counted(removed, 'file')} removed`]),
    verified === undefined
      ? 'not verified'
      : `${counted(verified.files, 'file')} verified, ${verified.findings === 0 ? 'nothing wrong' : counted(verified.findings, 'finding')}`,
  ];
  return `  ${repository}: ${parts.join('; ')}`;
}

function gainLines({ since, gained }: ProfileReport): string[] {
  if (gained === undefined) return [];
  const { kind, bytes, newBytes, packages, changes, kernel } = gained;
  const rows = changes
    .slice(0, mostPackages)
    .map(({ name, kind: how, from, to }) => [
      '   ',
      signs[how],
      name,
      [from, to].filter((version) => version !== undefined).join(' -> '),
    ]);
  return [
    `    ${kind === 'full' ? 'a full image' : `on ${since ?? 'nothing'}`}: ${formatBytes(newBytes)} new of ${formatBytes(bytes)}, ${counted(packages, 'package')}${kernel === undefined ? '' : `, kernel ${kernel}`}`,
    ...(rows.length === 0 ? [] : [formatTable(rows)]),
    ...(changes.length > rows.length ? [`    and ${changes.length - rows.length} more`] : []),
  ];
}

function profileLines(report: ProfileReport): string[] {
  const { profile, outcome, image, seconds, tests } = report;
  if (outcome === 'failed') {
    return [`  ${profile}: FAILED${image === undefined ? '' : `; ${image} stays the newest image`}`];
  }
  if (outcome === 'unchanged') return [`  ${profile}: nothing changed since ${image ?? ''}`];
  const booted = tests.map((each) => `${each.firmware} (healthy after ${formatSeconds(each.seconds)})`);
  return [
    `  ${profile}: ${image ?? ''} (${formatSeconds(seconds)})`,
    ...gainLines(report),
    `    ${booted.length === 0 ? 'not tested' : `tested by ${booted.join(', ')}`}`,
  ];
}

function mediumLine({ medium, outcome, target, added, removed, copied, free }: MediumReport): string {
  const said = { synced: 'up to date', unchanged: 'nothing to do', absent: 'not attached', failed: 'FAILED' };
  const parts = [
    said[outcome],
    ...(added.length === 0 ? [] : [`brought ${added.join(', ')} (${formatBytes(copied)})`]),
    ...(removed.length === 0 ? [] : [`removed ${removed.join(', ')}`]),
    ...(free === undefined ? [] : [`${formatBytes(free)} free`]),
  ];
  return `  ${printableLine(medium)}${target === undefined || target === medium ? '' : ` (${target})`}: ${parts.join('; ')}`;
}

/** What failed, with what to do about it. */
export function failureLines(failures: readonly Failure[]): string[] {
  return failures.flatMap(({ what, code, message, hint }) => [
    `  ${printableLine(what)}: ${printable(message).replaceAll('\n', '\n    ')} (${code})`,
    ...(hint === undefined ? [] : [`    hint: ${printable(hint)}`]),
  ]);
}

function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : ['', title, ...lines];
}

/** The report of a refresh, for people. */
export function reportText(report: RefreshReport): string {
  const { site, started, seconds, mirrors, profiles, media, pruned, failures } = report;
  const went = [
    ...pruned.images.map((name) => `  ${name}`),
    ...(pruned.bytes === 0
      ? []
      : [`  ${counted(pruned.layers, 'layer')}, ${formatBytes(pruned.bytes)} in all`]),
  ];
  return [
    subjectOf(report),
    `${site}, ${started.slice(0, 16).replace('T', ' ')} UTC, ${formatSeconds(seconds)}`,
    ...section('Failed', failureLines(failures)),
    ...section('Profiles', profiles.flatMap(profileLines)),
    ...section('Mirrors', mirrors.map(mirrorLine)),
    ...section('Media', media.map(mediumLine)),
    ...section('Removed', went),
    '',
  ].join('\n');
}
