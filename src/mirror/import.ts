import { basename } from 'node:path';
import { stringify } from 'yaml';
import { ReliveError } from '../core/error.ts';
import { parseStanzas } from '../debian/control.ts';

/** What another tool's configuration says, as relive.yaml says it. */
export interface Imported {
  /** What the file was taken for. */
  readonly format: 'mirror.list' | 'sources.list' | 'deb822' | 'debmirror.conf';
  /** The key `repositories` of relive.yaml. */
  readonly repositories: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  /** The same as YAML. */
  readonly yaml: string;
  /** What could not be carried over, with the line where there is one. */
  readonly left: readonly string[];
}

/** One line "deb" or "deb-src", or what comes to the same. */
interface Source {
  readonly type: 'deb' | 'deb-src';
  readonly url: string;
  readonly suite: string;
  readonly components: readonly string[];
  readonly architectures: readonly string[];
  readonly signedBy: string | undefined;
}

interface Parsed {
  readonly sources: readonly Source[];
  readonly select: 'closure' | 'all';
  /** Kinds that the tool brings besides packages and sources. */
  readonly kinds: readonly string[];
  readonly parallel?: number;
  readonly bandwidth?: string;
  readonly left: readonly string[];
}

const debianKeyring = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** One-line sources (sources.list(5)); those of apt-mirror are the same, with `deb-ARCH` and settings besides. */
function parseLines(text: string, host: string, mirrorList: boolean): Parsed {
  const sources: Source[] = [];
  const left: string[] = [];
  const settings = new Map<string, string>();
  for (const [index, whole] of text.split('\n').entries()) {
    const line = whole.replace(/#.*$/, '').trim();
    if (line === '') continue;
    const at = `line ${index + 1}`;
    const setting = mirrorList ? /^set\s+(\S+)\s+(.*)$/.exec(line) : null;
    if (setting !== null) {
      settings.set(setting[1] ?? '', setting[2] ?? '');
      continue;
    }
    const match = /^(deb|deb-src|deb-[a-z0-9]+)\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s*(.*)$/.exec(line);
    if (match === null) {
      const known = /^(clean|skip-clean)\s/.exec(line);
      left.push(
        known === null ? `${at}: ${line}` : `${at}: ${line} (relive mirror prune keeps to keep and limit)`,
      );
      continue;
    }
    const [, word = '', options = '', url = '', suite = '', rest = ''] = match;
    const values = new Map<string, string>();
    for (const option of options.split(/\s+/).filter((one) => one !== '')) {
      const [name = '', value = ''] = option.split(/[+-]?=/, 2);
      if (name === 'arch' || name === 'signed-by') values.set(name, value);
      else left.push(`${at}: the option ${option}`);
    }
    const suffix = word === 'deb' || word === 'deb-src' ? undefined : word.slice('deb-'.length);
    const architectures = suffix === undefined ? (values.get('arch') ?? host).split(',') : [suffix];
    sources.push({
      type: word === 'deb-src' ? 'deb-src' : 'deb',
      url,
      suite,
      components: rest.split(/\s+/).filter((one) => one !== ''),
      architectures,
      signedBy: values.get('signed-by'),
    });
  }
  if (!mirrorList) return { sources, select: 'closure', kinds: [], left };
  const named = new Map(settings);
  const parallel = Number(named.get('nthreads'));
  const rate = /^(\d+)([kmg]?)$/i.exec(named.get('limit_rate') ?? '');
  for (const used of [
    'nthreads',
    'limit_rate',
    'base_path',
    'mirror_path',
    'skel_path',
    'var_path',
    '_tilde',
  ]) {
    named.delete(used);
  }
  named.delete('defaultarch');
  const unit = { k: 'kB', m: 'MB', g: 'GB' }[rate?.[2]?.toLowerCase() ?? ''] ?? 'B';
  return {
    sources,
    select: 'all',
    kinds: ['translations'],
    ...(Number.isInteger(parallel) && parallel > 0 ? { parallel: Math.min(parallel, 64) } : {}),
    ...(rate === null ? {} : { bandwidth: `${rate[1]} ${unit}/s` }),
    left: [...left, ...[...named].map(([name, value]) => `set ${name} ${value}`)],
  };
}

function words(value: string | undefined): string[] {
  return (value ?? '').split(/\s+/).filter((one) => one !== '');
}

/** Sources in the style of deb822 (sources.list(5)). */
function parseDeb822(text: string, where: string, host: string): Parsed {
  const left: string[] = [];
  const commentless = text.replaceAll(/^#.*\n?/gm, '');
  const known = new Set([
    'types',
    'uris',
    'suites',
    'components',
    'architectures',
    'signed-by',
    'enabled',
    'description',
  ]);
  const sources = parseStanzas(commentless, where).flatMap((stanza): Source[] => {
    if (/^(no|false|off|0)$/i.test(stanza.get('enabled') ?? '')) {
      left.push(`a stanza for ${stanza.get('uris') ?? ''} that is not enabled`);
      return [];
    }
    for (const name of stanza.keys())
      if (!known.has(name)) left.push(`the field ${name}: ${stanza.get(name) ?? ''}`);
    const architectures = words(stanza.get('architectures'));
    const key = stanza.get('signed-by');
    return words(stanza.get('types')).flatMap((type) =>
      words(stanza.get('uris')).flatMap((url) =>
        words(stanza.get('suites')).map((suite) => ({
          type: type === 'deb-src' ? ('deb-src' as const) : ('deb' as const),
          url,
          suite,
          components: words(stanza.get('components')),
          architectures: architectures.length === 0 ? [host] : architectures,
          // A key in the field is folded: a blank in front, a dot for an empty line.
          signedBy:
            key?.includes('-----BEGIN') === true
              ? `${key
                  .split('\n')
                  .map((line) => line.trim().replace(/^\.$/, ''))
                  .join('\n')
                  .trim()}\n`
              : key?.trim(),
        })),
      ),
    );
  });
  return { sources, select: 'closure', kinds: [], left };
}

/** debmirror's configuration: Perl, of which assignments of plain words are understood. */
function parseDebmirror(text: string): Parsed {
  const left: string[] = [];
  const values = new Map<string, string[]>();
  for (const [index, whole] of text.split('\n').entries()) {
    const line = whole.replace(/(^|\s)#.*$/, '').trim();
    if (line === '' || line === '1;') continue;
    const match = /^(?:my\s+)?[$@]([a-z0-9_]+)\s*=\s*(.*?);?$/.exec(line);
    if (match === null) {
      left.push(`line ${index + 1}: ${line}`);
      continue;
    }
    const list = [...(match[2] ?? '').matchAll(/"([^"]*)"|'([^']*)'|([\w./-]+)/g)]
      .flatMap(([, double, single, bare]) => (double ?? single ?? bare ?? '').split(','))
      .map((word) => word.trim())
      .filter((word) => word !== '' && word !== 'qw');
    values.set(match[1] ?? '', list);
  }
  const take = (name: string): string[] => {
    const list = values.get(name) ?? [];
    values.delete(name);
    return list;
  };
  const [method = 'http'] = take('download_method');
  const [host = 'ftp.debian.org'] = take('host');
  const [root = 'debian'] = take('remoteroot');
  const isOn = (name: string): boolean => {
    const [value = '0'] = take(name);
    return value !== '0';
  };
  const sections = take('sections');
  const url = `${method}://${host}/${root.replaceAll(/^\/|\/$/g, '')}`;
  const wantsSource = isOn('do_source');
  const components = sections.filter((one) => !one.endsWith('/debian-installer'));
  const [keyring] = take('keyrings');
  const architectures = take('arches');
  const sources: Source[] = [];
  for (const suite of take('dists')) {
    const common = { url, suite, components, architectures, signedBy: keyring };
    sources.push({ ...common, type: 'deb' });
    if (wantsSource) sources.push({ ...common, type: 'deb-src' });
  }
  const kinds = [
    ...(sections.some((one) => one.endsWith('/debian-installer')) ? ['udebs'] : []),
    ...(take('di_dists').length > 0 ? ['installer'] : []),
    ...(isOn('i18n') ? ['translations'] : []),
    ...(isOn('getcontents') ? ['contents'] : []),
  ];
  const meaningless = [
    'debug',
    'verbose',
    'progress',
    'di_archs',
    'mirrordir',
    'check_md5sums',
    'cleanup',
    'post_cleanup',
  ];
  for (const name of meaningless) values.delete(name);
  return {
    sources,
    select: 'all',
    kinds,
    left: [...left, ...[...values].map(([name, list]) => `${name} = ${list.join(', ')}`)],
  };
}

function formatOf(path: string, text: string): Imported['format'] {
  const name = basename(path);
  if (/^\s*[$@][a-z_]+\s*=/m.test(text)) return 'debmirror.conf';
  if (/^Types:/im.test(text)) return 'deb822';
  if (/^\s*(set\s+\S+|clean\s|deb-(?!src\s)[a-z0-9]+\s)/m.test(text) || name === 'mirror.list')
    return 'mirror.list';
  if (/^\s*deb(-src)?\s/m.test(text)) return 'sources.list';
  throw new ReliveError('configuration', `${path} is no configuration that is known here`, {
    hint: "known are apt-mirror's mirror.list, sources.list (one-line and deb822) and debmirror.conf",
  });
}

/** A name for a repository, after its address: the last part of the path, else the host. */
function nameFor(url: string, taken: ReadonlySet<string>): string {
  const { hostname, pathname } = new URL(url);
  const last = pathname.split('/').findLast((part) => part !== '') ?? hostname;
  const plain =
    last
      .toLowerCase()
      .replaceAll(/[^a-z0-9]+/g, '-')
      .replaceAll(/^-+|-+$/g, '') || 'archive';
  for (let number = 1; ; number += 1) {
    const name = number === 1 ? plain : `${plain}-${number}`;
    if (!taken.has(name)) return name;
  }
}

/**
 * Reads the configuration of another tool.
 * @param path its name, for errors and for telling its format
 * @param host the architecture that sources without one mean
 * @throws ReliveError `configuration` for what is none of them, or names nothing that can be mirrored
 */
export function importConfiguration(path: string, text: string, host: string): Imported {
  const format = formatOf(path, text);
  const parsed =
    format === 'debmirror.conf'
      ? parseDebmirror(text)
      : format === 'deb822'
        ? parseDeb822(text, path, host)
        : parseLines(text, host, format === 'mirror.list');
  const left = [...parsed.left];
  const groups = new Map<string, Source[]>();
  for (const source of parsed.sources) {
    if (!/^(https?|rsync|file):\/\//.test(source.url) || !URL.canParse(source.url)) {
      left.push(`the address ${source.url}: only http, https, rsync and file are mirrored`);
      continue;
    }
    const flat = source.suite.endsWith('/') ? source.suite : '';
    const key = [
      source.url.replace(/\/+$/, ''),
      flat,
      source.components.join(' '),
      source.signedBy ?? '',
    ].join('\n');
    groups.set(key, [...(groups.get(key) ?? []), source]);
  }
  const repositories: Record<string, Record<string, unknown>> = {};
  for (const sources of groups.values()) {
    const [first] = sources;
    if (first === undefined) continue;
    const url = first.url.replace(/\/+$/, '');
    const name = nameFor(url, new Set(Object.keys(repositories)));
    const flat = first.suite.endsWith('/');
    const kinds = [
      ...(sources.some(({ type }) => type === 'deb') ? ['packages'] : []),
      ...(sources.some(({ type }) => type === 'deb-src') ? ['sources'] : []),
      ...(sources.some(({ type }) => type === 'deb') && !flat ? parsed.kinds : []),
    ];
    let { signedBy } = first;
    if (signedBy === undefined && /\/debian(-security)?$/.test(url)) signedBy = debianKeyring;
    if (signedBy === undefined) {
      signedBy = `keys/${name}.gpg`;
      left.push(`${url} names no key: put the one that you trust into ${signedBy}`);
    }
    const { parallel, bandwidth } = parsed;
    repositories[name] = {
      url: [url],
      suites: [...new Set(sources.map(({ suite }) => (suite === '/' ? './' : suite)))],
      ...(flat ? {} : { components: [...first.components] }),
      architectures: [...new Set(sources.flatMap(({ architectures }) => architectures))],
      signedBy,
      select: parsed.select,
      ...(kinds.join() === 'packages' ? {} : { kinds }),
      ...(parallel === undefined && bandwidth === undefined
        ? {}
        : {
            transport: {
              ...(parallel === undefined ? {} : { parallel }),
              ...(bandwidth === undefined ? {} : { bandwidth }),
            },
          }),
    };
  }
  if (groups.size === 0) {
    throw new ReliveError('configuration', `${path}, read as ${format}, names nothing that can be mirrored`, {
      ...(left.length === 0 ? {} : { hint: `not understood: ${left.slice(0, 5).join('; ')}` }),
    });
  }
  return { format, repositories, yaml: stringify({ repositories }), left };
}
