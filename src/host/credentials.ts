import { readdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { systemCode } from '../core/error.ts';

/** One entry of a netrc file. */
export interface Credential {
  /** The scheme that the entry is for: apt_auth.conf(5) lets an entry without one count for https only. */
  readonly scheme: 'http' | 'https';
  /** Host, with a port where the entry names one. */
  readonly host: string;
  /** The beginning of the path, with a slash in front; empty for all. */
  readonly path: string;
  readonly login: string;
  readonly password: string;
}

/** Reads the syntax of netrc(5) as apt_auth.conf(5) extends it: `machine [SCHEME://]HOST[:PORT][/PATH] login NAME password WORD`. */
export function parseNetrc(text: string): Credential[] {
  const words = text
    .split('\n')
    .filter((line) => !line.trimStart().startsWith('#'))
    .join(' ')
    .split(/\s+/);
  const found: Credential[] = [];
  for (const [index, word] of words.entries()) {
    if (word !== 'machine') continue;
    const match = /^(?:(https?):\/\/)?([^/\s]+)(\/\S*)?$/.exec(words[index + 1] ?? '');
    const values: Record<string, string> = {};
    for (let at = index + 2; at < words.length && words[at] !== 'machine'; at += 2) {
      values[words[at] ?? ''] = words[at + 1] ?? '';
    }
    const { login, password } = values;
    if (match === null || login === undefined || password === undefined) continue;
    found.push({
      scheme: match[1] === 'http' ? 'http' : 'https',
      host: (match[2] ?? '').toLowerCase(),
      path: match[3] ?? '',
      login,
      password,
    });
  }
  return found;
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EACCES'].includes(systemCode(error) ?? '')) return '';
    throw error;
  }
}

/** The credentials of this machine: apt's auth.conf and auth.conf.d, then the user's ~/.netrc (or $NETRC). */
export function hostCredentials(directory = '/etc/apt'): Credential[] {
  const parts = join(directory, 'auth.conf.d');
  let names: string[] = [];
  try {
    names = readdirSync(parts).filter((name) => /^[A-Za-z0-9_-]+(\.conf)?$/.test(name));
  } catch (error) {
    if (!['ENOENT', 'EACCES'].includes(systemCode(error) ?? '')) throw error;
  }
  const files = [
    join(directory, 'auth.conf'),
    ...names.toSorted().map((name) => join(parts, name)),
    process.env['NETRC'] ?? join(homedir(), '.netrc'),
  ];
  return files.flatMap((path) => parseNetrc(read(path)));
}

/** The value of an Authorization header for an address, or undefined where no entry is for it. */
export function authorizationFor(credentials: readonly Credential[], url: URL): string | undefined {
  const found = credentials.find(
    ({ scheme, host, path }) =>
      url.protocol === `${scheme}:` &&
      (host === url.host || (!host.includes(':') && host === url.hostname)) &&
      (path === '' ||
        url.pathname === path ||
        url.pathname.startsWith(path.endsWith('/') ? path : `${path}/`)),
  );
  if (found === undefined) return undefined;
  return `Basic ${Buffer.from(`${found.login}:${found.password}`).toString('base64')}`;
}
