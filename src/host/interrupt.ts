import { setMaxListeners } from 'node:events';
import { ReliveError } from '../core/error.ts';

/**
 * An abort signal that SIGINT, SIGTERM and SIGHUP trigger; work ends its processes and throws the reason. The
 * second signal does not wait any longer.
 */
export function interruptSignal(): AbortSignal {
  const controller = new AbortController();
  // Every process and download that runs listens; Node.js would take more than ten for a leak and say so.
  setMaxListeners(0, controller.signal);
  const interrupt = (name: NodeJS.Signals): void => {
    if (controller.signal.aborted) process.exit(130);
    controller.abort(
      new ReliveError('interrupted', `interrupted by ${name}`, {
        hint: 'what was finished is kept: the same command goes on from there',
      }),
    );
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  process.on('SIGHUP', interrupt);
  return controller.signal;
}
