import { expectation, type InterruptionKind, measured } from '../live/interruption.ts';
import { type RunningImage, runningImage } from '../live/running.ts';
import type { Target } from '../live/target.ts';
import { findVerified } from '../live/verified.ts';
import { type Call, optionalArgument, optionValue } from './command.ts';

/** An image that the machine is to be started into. */
export interface Start {
  readonly running: RunningImage;
  readonly target: Target;
  /** How long that will interrupt the machine, in words. */
  readonly expected: string;
}

/** What `live switch` and `live reboot` begin with: finds the image of the call, and says what to expect. */
export async function findStart(call: Call, kind: InterruptionKind): Promise<Start> {
  const { context } = call;
  const running = await runningImage();
  const store = optionValue(call, 'store');
  const target = await findVerified(store, optionalArgument(call, 0), running, context);
  const expected = expectation(kind, await measured(kind));
  context.emit({ event: 'note', message: `${target.manifest.image}: ${expected}` });
  return { running, target, expected };
}
