import { isReliveError, ReliveError } from '../core/error.ts';

/** The parts of a version (deb-version(7)): [epoch:]upstream[-revision]. */
export interface Version {
  readonly epoch: number;
  readonly upstream: string;
  /** Empty where the version has none; an empty revision sorts as "0" does. */
  readonly revision: string;
}

/**
 * The parts of a version, as dpkg takes them apart: the epoch ends at the first colon, the revision starts after
 * the last hyphen.
 * @throws ReliveError `corrupt` for what dpkg refuses
 */
export function parseVersion(text: string): Version {
  const firstColon = text.indexOf(':');
  const epochText = firstColon === -1 ? '0' : text.slice(0, firstColon);
  const rest = text.slice(firstColon + 1);
  const lastHyphen = rest.lastIndexOf('-');
  const upstream = lastHyphen === -1 ? rest : rest.slice(0, lastHyphen);
  const revision = lastHyphen === -1 ? '' : rest.slice(lastHyphen + 1);
  const epoch = Number(epochText);
  if (
    !/^\d+$/.test(epochText) ||
    epoch > 0x7fffffff ||
    !/^\d[A-Za-z0-9.+~:-]*$/.test(upstream) ||
    !/^[A-Za-z0-9.+~]*$/.test(revision) ||
    (lastHyphen !== -1 && revision === '')
  ) {
    throw new ReliveError('corrupt', `${JSON.stringify(text)} is not a version of a Debian package`, {
      hint: 'deb-version(7) says what a version looks like: [epoch:]upstream[-revision]',
    });
  }
  return { epoch, upstream, revision };
}

/** Whether dpkg takes it for a version. */
export function isVersion(text: string): boolean {
  try {
    parseVersion(text);
    return true;
  } catch (error) {
    if (!isReliveError(error, 'corrupt')) throw error;
    return false;
  }
}

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}

/** Where a character sorts: "~" before the end, the end and digits before letters, letters before all else. */
function order(code: number): number {
  if (Number.isNaN(code) || isDigit(code)) return 0;
  if (code === 0x7e) return -1;
  const isLetter = (code >= 0x41 && code <= 0x5a) || (code >= 0x61 && code <= 0x7a);
  return isLetter ? code : code + 256;
}

/** Compares two upstream parts or two revisions by the rule of deb-version(7): text and numbers in turn. */
function compareParts(a: string, b: string): number {
  let atA = 0;
  let atB = 0;
  while (atA < a.length || atB < b.length) {
    while (
      (atA < a.length && !isDigit(a.charCodeAt(atA))) ||
      (atB < b.length && !isDigit(b.charCodeAt(atB)))
    ) {
      const difference = order(a.charCodeAt(atA)) - order(b.charCodeAt(atB));
      if (difference !== 0) return difference;
      atA += 1;
      atB += 1;
    }
    while (a.charCodeAt(atA) === 0x30) atA += 1;
    while (b.charCodeAt(atB) === 0x30) atB += 1;
    let firstDifference = 0;
    while (isDigit(a.charCodeAt(atA)) && isDigit(b.charCodeAt(atB))) {
      if (firstDifference === 0) firstDifference = a.charCodeAt(atA) - b.charCodeAt(atB);
      atA += 1;
      atB += 1;
    }
    if (isDigit(a.charCodeAt(atA))) return 1;
    if (isDigit(b.charCodeAt(atB))) return -1;
    if (firstDifference !== 0) return firstDifference;
  }
  return 0;
}

/**
 * Compares two versions as `dpkg --compare-versions` does.
 * @returns negative when `a` is older, 0 when they are equal, positive when `a` is newer
 * @throws ReliveError `corrupt` for what dpkg refuses
 */
export function compareVersions(a: string, b: string): number {
  const left = parseVersion(a);
  const right = parseVersion(b);
  return (
    left.epoch - right.epoch ||
    compareParts(left.upstream, right.upstream) ||
    compareParts(left.revision, right.revision)
  );
}
