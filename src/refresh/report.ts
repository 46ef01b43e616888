import { type ErrorCode, isReliveError, messageOf } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import type { PackageDifference } from '../image/diff.ts';

/** Something that did not work. */
export interface Failure {
  /** `mirror debian`, `profile kiosk`, `medium KIOSK`, `prune`, `report`. */
  readonly what: string;
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string | undefined;
}

/** What became of a mirror. */
export interface MirrorReport {
  readonly repository: string;
  /** Suites that were published anew; undefined: it was not synchronised. */
  readonly published: readonly string[] | undefined;
  /** Files that were fetched, and their bytes. */
  readonly files: number;
  readonly bytes: number;
  /** Pool files that nothing needs any more. */
  readonly removed: number;
  /** Files that were verified, and what was found wrong with them; undefined: it was not verified. */
  readonly verified: { readonly files: number; readonly findings: number } | undefined;
}

/** What a profile gained since the last report. */
export interface ProfileReport {
  readonly profile: string;
  readonly outcome: 'new' | 'unchanged' | 'failed';
  /** Its newest image; undefined: it has none. */
  readonly image: string | undefined;
  /** The newest image at the time of the last report; undefined: there was none. */
  readonly since: string | undefined;
  /** Of a new image. */
  readonly gained:
    | {
        readonly kind: 'full' | 'incremental';
        /** Bytes of all its layers, and of those that the image before does not have. */
        readonly bytes: number;
        readonly newBytes: number;
        readonly packages: number;
        /** Those that differ from the image before; none where there was no image. */
        readonly changes: readonly PackageDifference[];
        readonly kernel: string | undefined;
      }
    | undefined;
  /** How the image was booted before it was published, and after how long it was healthy; none where it was not tested in this run. */
  readonly tests: readonly { readonly firmware: string; readonly seconds: number }[];
  /** How long it took. */
  readonly seconds: number;
}

/** What became of a medium. */
export interface MediumReport {
  /** As relive.yaml names it. */
  readonly medium: string;
  readonly outcome: 'synced' | 'unchanged' | 'absent' | 'failed';
  /** The disk or disk file that it is. */
  readonly target: string | undefined;
  readonly added: readonly string[];
  readonly removed: readonly string[];
  /** Bytes. */
  readonly copied: number;
  readonly free: number | undefined;
}

/** All that a refresh did. */
export interface RefreshReport {
  readonly schema: 1;
  readonly relive: string;
  /** The directory of the site. */
  readonly site: string;
  /** When it began (ISO 8601, UTC), and how long it took. */
  readonly started: string;
  readonly seconds: number;
  readonly outcome: 'new' | 'unchanged' | 'failed';
  readonly mirrors: readonly MirrorReport[];
  readonly profiles: readonly ProfileReport[];
  readonly media: readonly MediumReport[];
  readonly pruned: { readonly images: readonly string[]; readonly layers: number; readonly bytes: number };
  readonly failures: readonly Failure[];
}

/** What failed, of anything that was thrown. @throws the reason when the whole run is to end */
export function failureOf(what: string, error: unknown, { signal }: Pick<Context, 'signal'>): Failure {
  signal.throwIfAborted();
  if (isReliveError(error)) return { what, code: error.code, message: error.message, hint: error.hint };
  const stack = error instanceof Error ? (error.stack ?? error.message) : messageOf(error);
  return { what, code: 'bug', message: stack, hint: 'this is a bug of relive: please report it' };
}

/** What a report says, in one line. */
export function subjectOf({ profiles, failures, media }: RefreshReport): string {
  const gained = profiles.filter(({ outcome }) => outcome === 'new').map(({ image }) => image ?? '');
  const synced = media.filter(({ outcome }) => outcome === 'synced').length;
  return [
    ...(failures.length === 0 ? [] : [`failed: ${failures.map(({ what }) => what).join(', ')}`]),
    ...(gained.length === 0 ? [] : [`new: ${gained.join(', ')}`]),
    ...(gained.length === 0 && failures.length === 0 ? ['nothing new'] : []),
    ...(synced === 0 ? [] : [`${synced} ${synced === 1 ? 'medium' : 'media'} brought up to date`]),
  ].join('; ');
}
