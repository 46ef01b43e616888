import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isReliveError, ReliveError, systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { parseRelease, type Release } from '../debian/release.ts';
import { addressOf, type FetchedDocument, Transport, type Validators } from '../host/download.ts';
import { sha256, writeFileAtomic } from '../host/files.ts';
import { isByKey, verifyClearsigned, verifyDetached } from '../host/gpgv.ts';
import { type Layout, type Override, type Repository, suiteDirectory, suiteFileName } from './repository.ts';
import type { SuiteState } from './state.ts';

/** The largest signed file that is read: Debian's has 0.2 MB. */
const maximumRelease = 64 * 1024 * 1024;
/** How far ahead of us upstream's clock may be, as apt's Acquire::Max-FutureTime. */
const futureSeconds = 10;

/** A signed Release that was fetched and verified. */
export interface SignedRelease {
  /** The signed files by name, byte for byte as upstream has them. */
  readonly files: ReadonlyMap<string, Buffer>;
  readonly name: 'InRelease' | 'Release';
  readonly digest: string;
  readonly release: Release;
  /** For each signature that counts: the fingerprints of the (sub)key and of its primary key. */
  readonly signers: readonly (readonly string[])[];
  readonly validators: Validators;
  /** The base address that it came from. */
  readonly base: string;
}

/** A transport with what the repository's configuration says about it. @throws ReliveError `not-found` */
export async function transportFor(
  { name, transport }: Pick<Repository, 'name' | 'transport'>,
  threads = 1,
): Promise<Transport> {
  const { parallel, bandwidth, ...files } = transport ?? {};
  const tls: Record<string, string> = {};
  for (const [key, path] of Object.entries(files)) {
    if (path === undefined) continue;
    try {
      tls[key] = await readFile(path, 'utf8');
    } catch (error) {
      if (systemCode(error) === undefined) throw error;
      throw new ReliveError('not-found', `${path}, the ${key} of the repository ${name}, cannot be read`, {
        hint: 'check transport in relive.yaml',
        cause: error,
      });
    }
  }
  return new Transport({
    ...(parallel === undefined ? {} : { connections: parallel }),
    bandwidth,
    tls,
    threads,
  });
}

/** The addresses of a file of a suite at all upstreams. */
export function suiteAddresses(repository: Repository, suite: string, path: string): string[] {
  return repository.url.map((base) => addressOf(base, `${suiteDirectory(suite)}${path}`));
}

/**
 * Goes through the upstreams until one has a Release that is signed, neither expired nor from the future, nor older than the
 * one that was accepted before, and still of the same repository.
 * @param known what is published
 * @param reusable whether an unchanged Release means that there is nothing to do
 * @returns undefined when the Release is the published one
 * @throws ReliveError of the first upstream when none will do
 */
export async function acceptRelease(
  transport: Transport,
  layout: Layout,
  repository: Repository,
  suite: string,
  known: SuiteState | undefined,
  reusable: boolean,
  now: Date,
  context: Context,
): Promise<SignedRelease | undefined> {
  const what = `${suite} of ${repository.name}`;
  const problems: ReliveError[] = [];
  for (const [index, url] of repository.url.entries()) {
    try {
      const only = { ...repository, url: [url] };
      const signed = await fetchSignedRelease(
        transport,
        layout,
        only,
        suite,
        reusable ? known : undefined,
        context,
      );
      if (signed === undefined && known !== undefined) {
        const validUntil = known.validUntil === undefined ? undefined : new Date(known.validUntil);
        checkTimes({ date: new Date(known.date), validUntil }, what, repository, now, context);
        return undefined;
      }
      if (signed === undefined) throw new TypeError('an unknown suite cannot be unchanged');
      checkTimes(signed.release, what, repository, now, context);
      if (known !== undefined) {
        checkSuccession(signed.release, known, what, repository, context);
        checkBinding(signed.signers, known, what, repository, now, context);
      }
      return signed;
    } catch (error) {
      if (!isReliveError(error, 'not-authentic', 'corrupt', 'unsafe-path', 'no-network', 'download-failed')) {
        throw error;
      }
      problems.push(error);
      if (index + 1 < repository.url.length) {
        context.emit({
          event: 'warning',
          message: `${url} is of no use, the next one is asked: ${error.message}`,
        });
      }
    }
  }
  // What was delivered and refused says more than a server that is away.
  throw problems.find(({ code }) => code === 'not-authentic') ?? problems[0] ?? new TypeError('no address');
}

/**
 * Fetches the signed Release of a suite and verifies its signature: InRelease, or Release with Release.gpg where upstream
 * has no InRelease.
 * @returns undefined when upstream says, or the bytes show, that it is what `known` tells of
 * @throws ReliveError `not-authentic`, `no-network`, `download-failed`, `corrupt`
 */
export async function fetchSignedRelease(
  transport: Transport,
  layout: Layout,
  repository: Repository,
  suite: string,
  known: SuiteState | undefined,
  context: Context,
): Promise<SignedRelease | undefined> {
  const fetch = async (name: string, validators?: SuiteState['validators']): Promise<FetchedDocument> =>
    await transport.document(
      suiteAddresses(repository, suite, name),
      {
        maximumSize: maximumRelease,
        ...(validators === undefined
          ? {}
          : {
              validators: {
                url: validators.url,
                etag: validators.etag,
                lastModified: validators.lastModified,
              },
            }),
      },
      context,
    );
  let name: 'InRelease' | 'Release' = 'InRelease';
  let document = await fetch(name, known?.validators);
  if (document.state === 'absent') {
    name = 'Release';
    document = await fetch(name, known?.validators);
  }
  if (document.state === 'unchanged') return undefined;
  if (document.state === 'absent') {
    throw new ReliveError(
      'download-failed',
      `${repository.name} has no suite ${suite}: no InRelease, no Release`,
      {
        hint: `looked at ${suiteAddresses(repository, suite, '').join(', ')}; check url and suites in relive.yaml`,
      },
    );
  }
  const digest = sha256(document.body);
  if (known?.releaseDigest === digest && known.release === name) return undefined;
  const files = new Map([[name as string, document.body]]);
  if (name === 'Release') {
    const signature = await fetch('Release.gpg');
    if (signature.state !== 'fetched') {
      throw new ReliveError('not-authentic', `${document.url} is not signed: there is no Release.gpg`, {
        hint: 'nothing unsigned is mirrored; ask those who run the repository for a signature',
      });
    }
    files.set('Release.gpg', signature.body);
  }
  const { body, signers } = await verify(layout, repository, suite, files, document.url, context);
  return {
    files,
    name,
    digest,
    release: parseRelease(body, document.url),
    signers,
    validators: document.validators,
    base: repository.url[0] ?? '',
  };
}

/** Verifies the signed files of a suite; gpgv wants them as files. */
async function verify(
  layout: Layout,
  repository: Repository,
  suite: string,
  files: ReadonlyMap<string, Buffer>,
  url: string,
  context: Context,
): Promise<{ readonly body: Buffer; readonly signers: readonly (readonly string[])[] }> {
  const path = (name: string): string => join(layout.state, `incoming-${suiteFileName(suite)}.${name}`);
  const options = {
    as: url,
    ...(repository.fingerprints === undefined ? {} : { fingerprints: repository.fingerprints }),
  };
  for (const [name, content] of files) await writeFileAtomic(path(name), content);
  try {
    if (files.has('InRelease')) {
      return await verifyClearsigned(path('InRelease'), repository.signedBy, context, options);
    }
    const { signers } = await verifyDetached(
      path('Release'),
      path('Release.gpg'),
      repository.signedBy,
      context,
      options,
    );
    return { body: await readFile(path('Release')), signers };
  } finally {
    for (const name of files.keys()) await rm(path(name), { force: true });
  }
}

function day(date: Date): string {
  return date.toISOString().replace('.000Z', 'Z');
}

/** Throws for a broken rule, or warns where the repository is let off it by name. */
function enforce(
  rule: Override,
  repository: Repository,
  message: string,
  hint: string,
  context: Context,
): void {
  if (repository.override?.includes(rule) !== true) throw new ReliveError('not-authentic', message, { hint });
  context.emit({
    event: 'warning',
    message: `${message}; used all the same, because the repository ${repository.name} has "override: [${rule}]"`,
  });
}

/**
 * The rules of apt about time: not from the future, not expired.
 * @param what the suite, in words
 * @throws ReliveError `not-authentic`
 */
export function checkTimes(
  times: { readonly date: Date; readonly validUntil: Date | undefined },
  what: string,
  repository: Repository,
  now: Date,
  context: Context,
): void {
  if (times.date.getTime() > now.getTime() + futureSeconds * 1000) {
    const hint = 'check the clock of this machine first (timedatectl)';
    const message = `the Release of ${what} has a Date in the future: ${day(times.date)}, here it is ${day(now)}`;
    enforce('future', repository, message, hint, context);
  }
  if (times.validUntil !== undefined && times.validUntil.getTime() < now.getTime()) {
    const hint =
      'upstream is no longer kept up, or somebody holds back its updates: try another url; what was mirrored before is still there';
    enforce(
      'expired',
      repository,
      `the Release of ${what} expired at ${day(times.validUntil)}; here it is ${day(now)}`,
      hint,
      context,
    );
  }
}

/**
 * Compares a new Release with what was accepted before: it must not be older, and still be the same repository.
 * @throws ReliveError `not-authentic`
 */
export function checkSuccession(
  release: Release,
  known: SuiteState,
  what: string,
  repository: Repository,
  context: Context,
): void {
  const before = new Date(known.date);
  if (release.date.getTime() < before.getTime()) {
    enforce(
      'older',
      repository,
      `the Release of ${what} is of ${day(release.date)}, older than the one of ${day(before)} that was mirrored before`,
      'this upstream lags behind or is led back on purpose: try another url, or later',
      context,
    );
  }
  const changes = (
    [
      ['Origin', known.origin, release.origin],
      ['Label', known.label, release.label],
      ['Suite', known.suiteName, release.suite],
      ['Codename', known.codename, release.codename],
    ] as const
  ).filter(([, old, current]) => old !== current);
  if (changes.length > 0) {
    const told = changes
      .map(
        ([field, old, current]) =>
          `${field} from ${JSON.stringify(old ?? '')} to ${JSON.stringify(current ?? '')}`,
      )
      .join(', ');
    enforce(
      'renamed',
      repository,
      `the Release of ${what} changed its ${told}`,
      'a new release of the distribution does this ("stable" becomes another one): name the suite by its codename, or accept the change once with "override: [renamed]"',
      context,
    );
  }
}

/**
 * A Release may name the keys that sign the next one (Signed-By); it binds until its own Valid-Until, and without one not at
 * all (https://wiki.debian.org/DebianRepository/Format, "Signed-By").
 * @throws ReliveError `not-authentic`
 */
function checkBinding(
  signers: SignedRelease['signers'],
  { signedBy, validUntil }: SuiteState,
  what: string,
  repository: Repository,
  now: Date,
  context: Context,
): void {
  if (signedBy === undefined || validUntil === undefined || Date.parse(validUntil) < now.getTime()) return;
  const named = signedBy.split(/[\s,]+/).filter((word) => word !== '');
  if (signers.some((keys) => named.some((fingerprint) => isByKey(keys, fingerprint)))) return;
  enforce(
    'signer',
    repository,
    `the Release of ${what} is not signed by a key that the one before it names in Signed-By: ${named.join(', ')}`,
    `ask those who run the repository whether they changed their key; the rule ends with that Release, at ${validUntil}`,
    context,
  );
}
