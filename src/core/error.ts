/**
 * Every failure that relive knows, and the exit status that it ends a command with: 2 for wrong usage or
 * configuration, 3 for work that failed, 130 for an interrupt (docs/design.md, "Commands"). docs/troubleshooting.md says
 * of each what to do.
 */
export const exitStatusOf = {
  usage: 2,
  configuration: 2,
  'not-root': 2,
  'not-found': 2,
  exists: 2,
  'tool-missing': 3,
  'tool-failed': 3,
  'timed-out': 3,
  'no-network': 3,
  'download-failed': 3,
  'not-authentic': 3,
  corrupt: 3,
  'unsafe-path': 3,
  'unknown-package': 2,
  unsolvable: 2,
  'disk-full': 3,
  locked: 3,
  'host-unable': 3,
  'guest-failed': 3,
  bug: 3,
  interrupted: 130,
} as const;

export type ErrorCode = keyof typeof exitStatusOf;

/** Text in which addresses have lost their user and password: `http://***@host/`. */
export function withoutPasswords(text: string): string {
  return text.includes('@') ? text.replaceAll(/([a-z][a-z0-9+.-]*:\/\/)[^\s/"'<>]+@/gi, '$1***@') : text;
}

/**
 * A failure with a known cause: `message` says what and where, `hint` what to do next. Anything else that is
 * thrown is a bug of relive and is shown with its stack. What stands in logs and reports has no password: those of
 * addresses are taken out.
 */
export class ReliveError extends Error {
  override readonly name = 'ReliveError';
  readonly code: ErrorCode;
  readonly hint: string | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    options: { readonly hint?: string | undefined; readonly cause?: unknown } = {},
  ) {
    super(withoutPasswords(message), 'cause' in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.hint = options.hint === undefined ? undefined : withoutPasswords(options.hint);
  }

  /** The status that a command ends with when this error reaches its front door. */
  get exitStatus(): number {
    return exitStatusOf[this.code];
  }
}

/** Whether `error` is a ReliveError with one of `codes`: for catching only what is expected. */
export function isReliveError(error: unknown, ...codes: readonly ErrorCode[]): error is ReliveError {
  return error instanceof ReliveError && (codes.length === 0 || codes.includes(error.code));
}

/** The `code` of an error of Node.js (`ENOENT`, ...), or undefined for anything else. */
export function systemCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** Anything that was thrown, or that a signal was aborted with, as an error. */
export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
