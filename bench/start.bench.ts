import { comparison, part } from './report.ts';
import { cli, least, timed } from './site.ts';

/* What a user waits for before anything happens; bare Node.js is the least it could be. */

const rounds = 20;

function row(name: string, ...args: readonly string[]) {
  const { wall, processor } = least(Array.from({ length: rounds }, () => timed([process.execPath, ...args])));
  return { name, values: [wall, processor] };
}

comparison('start', async () => {
  await part({ bench: 'start', part: 'start' }, [], (report) => {
    report.table({
      title: 'From command to exit',
      columns: [
        { name: 'time', unit: 's' },
        { name: 'processor', unit: 's' },
      ],
      rows: [
        row('node --eval 0', '--eval', '0'),
        row('relive --version', cli, '--version'),
        row('relive --help', cli, '--help'),
      ],
      plot: 'time',
    });
  });
});
