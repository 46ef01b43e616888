import { tmpdir } from 'node:os';
import { resolve } from 'node:path';
import { ReliveError } from '../core/error.ts';
import { withScratchDirectory } from '../host/anonymous.ts';
import { writeFileAtomic } from '../host/files.ts';
import { diffImages, type ImageDifference } from '../image/diff.ts';
import { findImage, listImages, type StoredImage } from '../image/store.ts';
import { formatTable } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import type { TreeDifference } from '../rootfs/compare.ts';
import { loadSite } from '../site/site.ts';
import { type Call, optionalArgument, optionValue, requiredArgument } from './command.ts';
import { diffPage } from './image-diff-page.ts';

/** More entries than this are for a pager or a program. */
const shown = 100;
const signs = { added: '+', removed: '-', changed: '*' } as const;

/** The two images to compare; of one alone it is the one before it that it is compared with. */
async function imagesOf(call: Call, store: string): Promise<[StoredImage, StoredImage]> {
  const first = await findImage(store, requiredArgument(call, 0));
  const wanted = optionalArgument(call, 1);
  if (wanted !== undefined) return [first, await findImage(store, wanted)];
  const ofProfile = (await listImages(store)).filter(({ profile }) => profile === first.profile);
  const before = ofProfile[ofProfile.findIndex(({ name }) => name === first.name) + 1];
  if (before === undefined) {
    throw new ReliveError('not-found', `${first.name} is the oldest image of ${first.profile}`, {
      hint: 'name the image to compare it with: relive image diff A B',
    });
  }
  return [before, first];
}

function onlyTime({ aspects }: TreeDifference): boolean {
  return aspects.length === 1 && aspects[0] === 'time';
}

function entryLine({ path, kind, aspects, from, to }: TreeDifference): string {
  const detail: string[] = [];
  if (kind === 'changed') {
    detail.push(aspects.join(', '));
    if (aspects.includes('mode')) detail.push(`${from?.mode} -> ${to?.mode}`);
    if (aspects.includes('owner')) detail.push(`${from?.owner} -> ${to?.owner}`);
    if (aspects.includes('type')) detail.push(`${from?.type} -> ${to?.type}`);
    if (from?.size !== to?.size) detail.push(`${from?.size} -> ${to?.size} bytes`);
  }
  return `${signs[kind]} /${path}${detail.length === 0 ? '' : `  (${detail.join('; ')})`}`;
}

function entriesText(title: string, entries: readonly TreeDifference[], all: boolean): string[] {
  const telling = all ? entries : entries.filter((entry) => !onlyTime(entry));
  const lines = (all ? telling : telling.slice(0, shown)).map((entry) => `  ${entryLine(entry)}`);
  const times = entries.length - telling.length;
  const more = [
    ...(telling.length > lines.length ? [`${telling.length - lines.length} more`] : []),
    ...(times > 0 ? [`${times} that differ in their time only`] : []),
  ];
  if (entries.length === 0) return [];
  return [
    `${title}:`,
    ...lines,
    ...(more.length === 0 ? [] : [`  and ${more.join(', ')}: --all lists them`]),
  ];
}

function table(title: string, rows: readonly string[][]): string[] {
  if (rows.length === 0) return [];
  const lines = formatTable(rows).split('\n');
  return [`${title}:`, ...lines.map((line) => `  ${line}`)];
}

function textOf(difference: ImageDifference, all: boolean): string {
  const { from, to, facts, packages, files, initrd } = difference;
  return [
    `${from} -> ${to}`,
    ...table(
      'what the manifests say',
      facts.map((fact) => [fact.name, fact.from, '->', fact.to]),
    ),
    ...table(
      'packages',
      packages.map((each) => [
        each.kind,
        `${each.name}:${each.architecture}`,
        each.from ?? '',
        each.to ?? '',
      ]),
    ),
    ...table(
      'units',
      difference.units.map(({ path, kind }) => [kind, `/${path}`]),
    ),
    ...entriesText('files', files, all),
    ...entriesText('files in the initrd', initrd ?? [], all),
  ].join('\n');
}

export async function run(call: Call): Promise<CommandResult> {
  const { store } = await loadSite(call.siteDirectory);
  const images = await imagesOf(call, store);
  const difference = await withScratchDirectory(
    tmpdir(),
    async (scratch) => await diffImages(store, images, scratch, call.context),
  );
  const page = optionValue(call, 'html');
  if (page !== undefined) await writeFileAtomic(resolve(page), diffPage(difference));
  const same = difference.facts.length === 0 && difference.files.length === 0;
  const { from, to } = difference;
  return {
    ok: same,
    data: { ...difference },
    text: same ? `${from} and ${to} are the same system` : textOf(difference, call.options['all'] === true),
  };
}
