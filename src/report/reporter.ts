import type { ReliveError } from '../core/error.ts';
import type { WorkEvent } from '../core/event.ts';

/** What a command hands back: `ok` false is a check that found something (exit status 1). */
export interface CommandResult {
  readonly ok: boolean;
  /** The fields of the result line of `--json`. */
  readonly data: Readonly<Record<string, unknown>>;
  /** The same for people, printed to standard output; may be empty. */
  readonly text: string;
  /** What `ok: false` means is that a part of the work failed (exit status 3), of which the result tells. */
  readonly failed?: true;
}

/** Where events, the result and the error of a command go. */
export interface Reporter {
  readonly emit: (event: WorkEvent) => void;
  readonly result: (result: CommandResult) => void;
  readonly error: (error: ReliveError) => void;
}

/** A stream of text, as much of it as reporters need. */
export interface Output {
  readonly write: (text: string) => unknown;
  readonly columns?: number | undefined;
  readonly rows?: number | undefined;
}
