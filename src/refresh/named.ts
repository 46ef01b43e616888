import type { Context, WorkEvent } from '../core/event.ts';

function named(name: string, event: WorkEvent): WorkEvent {
  const before = (text: string): string => `${name}: ${text}`;
  switch (event.event) {
    case 'stage':
    case 'progress':
      return { ...event, stage: before(event.stage) };
    case 'warning':
      return { ...event, message: before(event.message) };
    case 'note':
      // What a foreign program says belongs to the stage that it works for.
      return event.source === undefined
        ? { ...event, message: before(event.message) }
        : { ...event, source: before(event.source) };
    case 'finding':
    default:
      return event;
  }
}

/** A context whose events have a name in front, so that those of several works at once can be told apart. */
export function namedContext(context: Context, name: string): Context {
  return { ...context, emit: (event) => context.emit(named(name, event)) };
}
