/** What a check can find wrong; `kind` of a finding (docs/design.md, "Commands"). */
export type FindingKind =
  | 'missing'
  | 'truncated'
  | 'corrupt'
  | 'unreferenced'
  | 'expired'
  | 'unsigned'
  | 'inconsistent'
  | 'unsafe-path'
  | 'unknown'
  | 'unsuitable';

/** One thing that a check found wrong. */
export interface Finding {
  readonly event: 'finding';
  readonly kind: FindingKind;
  /** The file, package or tool it is about. */
  readonly path: string;
  readonly detail: string;
  /** What to do about it. */
  readonly hint?: string;
}

/** A named part of long work starts, was found done already, or is done. */
export interface StageEvent {
  readonly event: 'stage';
  readonly stage: string;
  readonly state: 'start' | 'cached' | 'done';
  readonly seconds?: number;
  readonly detail?: string;
}

/** How far a stage is. `total` is absent while it is unknown. */
export interface ProgressEvent {
  readonly event: 'progress';
  readonly stage: string;
  readonly done: number;
  readonly total?: number;
  readonly unit: 'bytes' | 'files' | 'packages' | 'percent';
  /** What is worked on just now. */
  readonly item?: string;
}

/** Something the user must know although the work goes on. */
export interface WarningEvent {
  readonly event: 'warning';
  readonly message: string;
  readonly hint?: string;
}

/** A line for the user: what is being done, or what a foreign program says (`source` names it). */
export interface NoteEvent {
  readonly event: 'note';
  readonly message: string;
  readonly source?: string;
}

/** Work reports events, never text; only report/ renders them. */
export type WorkEvent = Finding | StageEvent | ProgressEvent | WarningEvent | NoteEvent;

/** What all long work is handed: where its events go, and the signal that ends it. */
export interface Context {
  readonly emit: (event: WorkEvent) => void;
  /** Aborted by SIGINT and SIGTERM; its reason is the ReliveError to throw. */
  readonly signal: AbortSignal;
}

/** Runs `work` as the named stage: reports its start, its end and how long it took. */
export async function inStage<T>(context: Context, stage: string, work: () => Promise<T>): Promise<T> {
  const started = performance.now();
  context.emit({ event: 'stage', stage, state: 'start' });
  const value = await work();
  context.emit({ event: 'stage', stage, state: 'done', seconds: (performance.now() - started) / 1000 });
  return value;
}
