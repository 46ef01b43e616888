import type { ArgumentSpec, CommandSpec, OptionSpec } from '../../src/commands/command.ts';
import { commands, commonOptions, groups, summary } from '../../src/commands/table.ts';
import { version } from '../../src/core/version.ts';
import { type Block, example, heading, item, type Page, paragraph, synopsis } from './page.ts';

/** What a command ends with, as docs/design.md says. */
const statuses: readonly (readonly [string, string])[] = [
  ['0', 'Done.'],
  ['1', 'A check found something: verify, doctor, diff.'],
  ['2', 'Wrong usage or configuration.'],
  ['3', 'The work failed.'],
  ['130', 'Interrupted.'],
];

const files: readonly (readonly [string, string])[] = [
  ['relive.yaml', 'The site: repositories and where things are kept; see relive.yaml(5).'],
  ['profiles/NAME.yaml', 'What a system is; see relive-profile(5).'],
  ['overlays/NAME/', 'Files that are copied into the system as they are.'],
  ['locks/NAME.ARCHITECTURE.json', 'The exact packages of a profile.'],
  ['keys/', 'The signing key (gnupg/, for nobody else) and the public keys (public.asc).'],
];

const environment: readonly (readonly [string, string])[] = [
  ['SOURCE_DATE_EPOCH', 'Seconds since 1970: the latest time that anything in an image bears.'],
  ['TMPDIR', 'Where temporary files are made.'],
  ['NO_COLOR', 'No colours, whatever its value.'],
  ['http_proxy, https_proxy, no_proxy', 'How repositories are reached.'],
];

const formats = ['relive.yaml(5)', 'relive-profile(5)'];

/** The name of a command's page: relive-mirror-sync. */
export function pageName(command: string): string {
  return `relive-${command.replaceAll(' ', '-')}`;
}

function sentence(text: string): string {
  const first = `${text.slice(0, 1).toUpperCase()}${text.slice(1)}`;
  return /[.!?]$/.test(first) ? first : `${first}.`;
}

function argumentItem({ name, description, choices }: ArgumentSpec): Block {
  return item(name, [sentence(description), ...choiceLines(choices)]);
}

function optionItem({ flags, description, choices, default: otherwise }: OptionSpec): Block {
  const more = otherwise === undefined ? [] : [`(Unless given: ${otherwise})`];
  return item(flags, [sentence(description), ...choiceLines(choices), ...more]);
}

function choiceLines(choices: readonly string[] | undefined): string[] {
  return choices === undefined ? [] : [`One of ${choices.join(', ')}.`];
}

function pairs(title: string, list: readonly (readonly [string, string])[]): Block[] {
  return [heading(title), ...list.map(([term, meaning]) => item(term, [meaning]))];
}

const help: OptionSpec = { flags: '-h, --help', description: 'show the usage with examples' };

/**
 * relive-COMMAND(1)
 * @param alone whether it says itself what it has in common with all commands
 */
function commandPage(spec: CommandSpec, alone: boolean): Page {
  const { name, description, arguments: positional = [], options = [], examples } = spec;
  const words = [
    ...(options.length > 0 ? ['[option ...]'] : []),
    ...positional.map((argument) => argument.name),
  ];
  const group = name.split(' ').length > 1 ? name.split(' ')[0] : undefined;
  const related = commands.filter(
    (other) => group !== undefined && other !== spec && other.name.startsWith(`${group} `),
  );
  const needsRoot = spec.mounts === true || spec.needsRoot === true;
  return {
    name: pageName(name),
    section: 1,
    summary: spec.summary,
    version,
    body: [
      heading('Synopsis'),
      synopsis(`relive ${name}`, words),
      heading('Description'),
      paragraph(description ?? sentence(spec.summary)),
      ...(needsRoot ? [paragraph('Only root may call it.')] : []),
      ...(positional.length === 0 ? [] : [heading('Arguments'), ...positional.map(argumentItem)]),
      ...(alone || options.length > 0 ? [heading('Options')] : []),
      ...[...options, ...(alone ? [...commonOptions, help] : [])].map(optionItem),
      heading('Examples'),
      ...examples.map(({ command, says }) => example(command, sentence(says))),
      ...(alone ? pairs('Exit status', statuses) : []),
    ],
    seeAlso: ['relive(1)', ...related.map((other) => `${pageName(other.name)}(1)`), ...formats],
  };
}

/** relive(1) */
function mainPage(): Page {
  const listed = commands.map((spec) => item(`relive ${spec.name}`, [sentence(spec.summary)]));
  return {
    name: 'relive',
    section: 1,
    summary: 'incremental live operating systems out of Debian',
    version,
    body: [
      heading('Synopsis'),
      synopsis('relive', ['command', '[argument ...]', '[option ...]']),
      heading('Description'),
      paragraph(summary),
      paragraph(
        'It works on a site, a directory with relive.yaml, profiles, overlays and locks, normally in git. A profile says what a\nsystem is; relive proves its packages authentic, builds the system in stages, packs it, seals it with checksums and a\nsignature, and boots it in a virtual machine before anybody else does.',
      ),
      heading('Commands'),
      ...listed,
      paragraph(
        `Groups: ${Object.entries(groups)
          .map(([name, about]) => `${name} (${about})`)
          .join(', ')}.`,
      ),
      heading('Options'),
      ...[
        ...commonOptions,
        help,
        { flags: '-V, --version', description: 'print the version of relive itself' },
      ].map(optionItem),
      ...pairs('Exit status', statuses),
      ...pairs('Files', files),
      ...pairs('Environment', environment),
      heading('Examples'),
      example('relive init /srv/relive && cd /srv/relive', 'A new site.'),
      example('relive keys create', 'The key its images are signed with.'),
      example('relive build demo', 'An image of the profile demo.'),
      example('relive vm demo', 'Does it come up?'),
      example(
        'systemctl enable --now relive-mirror@srv-relive.timer',
        'Bring the mirrors of /srv/relive up to date every night, and verify a part of them.',
      ),
      example(
        'systemctl enable --now relive-refresh@srv-relive.timer',
        'Instead: all of it every night, mirrors, images and media.',
      ),
    ],
    seeAlso: [...commands.map(({ name }) => `${pageName(name)}(1)`), ...formats],
  };
}

/**
 * relive(1) and a page for each command of the table.
 * @param alone whether each says what it has in common with all commands, or relive(1) for them
 */
export function commandPages(alone = true): Page[] {
  return [mainPage(), ...commands.map((spec) => commandPage(spec, alone))];
}
