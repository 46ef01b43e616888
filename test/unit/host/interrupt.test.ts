import { expect, test } from 'vitest';
import { startModule } from '../../support.ts';

const source = `import { interruptSignal } from 'build/modules/host/interrupt.js';
  const signal = interruptSignal();
  const turn = setInterval(() => undefined, 1000);
  for (let count = 0; count < 30; count += 1) signal.addEventListener('abort', () => undefined);
  signal.addEventListener('abort', () => {
    console.log(signal.reason.code, signal.reason.message);
    if (process.argv[1] === 'stop') clearInterval(turn);
  });
  console.log('ready');`;

test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s aborts, and many may listen', async (name) => {
  const { child, ended, says } = startModule(source, ['stop']);
  await says('ready');
  child.kill(name);
  expect(await ended).toMatchObject({
    status: 0,
    stdout: `ready\ninterrupted interrupted by ${name}\n`,
    stderr: '',
  });
});

test('the second signal does not wait any longer', async () => {
  const { child, ended, says } = startModule(source, ['go on']);
  await says('ready');
  child.kill('SIGINT');
  await says('interrupted by SIGINT');
  child.kill('SIGTERM');
  expect(await ended).toMatchObject({ status: 130 });
});
