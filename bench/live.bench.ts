import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import {
  addLiveProfile,
  LiveMachine,
  liveProfile,
  makeImage,
  makeLiveMedium,
  type Polled,
  publishUpgrade,
} from '../test/fixtures/live-machine.ts';
import { comparison, part } from './report.ts';
import { newSite } from './site.ts';

/*
 * How long a web server in an emulated machine is not heard by a client of this host, when the machine is brought to
 * another image: by apply, switch, kexec and the firmware, in one guest. The other image has another zlib1g, which the
 * server uses, and a file of 20 MB that no compression makes smaller.
 */

const megabytes = 20;

/** Makes the site, its images and the medium. */
async function prepare(work: string): Promise<{ one: string; two: string; medium: string }> {
  const directory = newSite(work);
  const mirror = join(directory, 'mirror');
  const live = addLiveProfile({ directory, mirror });
  try {
    const one = await makeImage({ directory }, 'build', liveProfile);
    publishUpgrade(live, { directory, mirror });
    const file = join(directory, 'overlays', liveProfile, 'opt/data/large');
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, randomBytes(megabytes * 1024 * 1024));
    const two = await makeImage({ directory }, 'update', liveProfile, '--no-test');
    return { one, two, medium: await makeLiveMedium({ directory }, one, two) };
  } finally {
    live.key.remove();
  }
}

interface Applied {
  readonly polled: Polled;
  /** From the command to its end, in the guest. */
  readonly seconds: number;
  /** Of these, what its stages took; that of the services is a part of `apply`. */
  readonly stages: Readonly<Record<string, number>>;
  /** What Node.js itself takes to start there. */
  readonly node: number;
}

/** A number of seconds that bash has measured. */
function secondsIn(text: string): number {
  return Number(/^seconds ([\d.]+)$/m.exec(text)?.[1]);
}

async function apply(machine: LiveMachine): Promise<Applied> {
  let text = '';
  const polled = await machine.polledWhile(async () => {
    text = await machine.succeed("TIMEFORMAT='seconds %R'; time relive live apply --json 2>/dev/null");
  });
  const stages: Record<string, number> = {};
  for (const line of text.split('\n')) {
    const [, stage, seconds] = /"stage":"([^"]*)","state":"done","seconds":([\d.]+)/.exec(line) ?? [];
    if (stage !== undefined) stages[stage] = Number(seconds);
  }
  const bare = await machine.succeed("TIMEFORMAT='seconds %R'; time node --eval 0");
  return { polled, seconds: secondsIn(text), stages, node: secondsIn(bare) };
}

/** In words, what the time of an apply went to. */
function breakdown({ seconds, stages, node }: Applied): string {
  const { verify = 0, compare = 0, apply: replay = 0, services = 0 } = stages;
  const rest = seconds - verify - compare - replay;
  const parts = [
    `verifying ${verify.toFixed(1)} s`,
    `comparing ${compare.toFixed(1)} s`,
    `copying and writing ${(replay - services).toFixed(1)} s`,
    `systemd with the services that start anew ${services.toFixed(1)} s`,
    `the rest (start, signature, mounts, systemd and processes asked) ${rest.toFixed(1)} s`,
  ];
  return `The command of apply took ${seconds.toFixed(1)} s in the guest: ${parts.join(', ')}. Node.js alone starts in ${node.toFixed(1)} s there.`;
}

/** Brings the machine to an image, as its own command does, until it reports itself healthy. */
async function bring(machine: LiveMachine, words: string, image: string): Promise<Polled> {
  return await machine.polledWhile(async () => {
    await machine.succeed(`relive live ${words} ${image}`);
    await machine.healthy(image);
  });
}

function row(name: string, { longest, missed }: Polled) {
  return { name, values: [longest, missed] };
}

comparison('live', async () => {
  await part({ bench: 'live', part: 'interruptions' }, ['qemu-system-x86_64'], async (report) => {
    const work = mkdtempSync(join(tmpdir(), 'relive-bench-live-'));
    try {
      const { one, two, medium } = await prepare(work);
      const machine = await LiveMachine.start(medium);
      try {
        await machine.healthy(one);
        const applied = await apply(machine);
        const switched = await bring(machine, 'switch', two);
        const kexeced = await bring(machine, 'reboot', one);
        const rebooted = await bring(machine, 'reboot --firmware', one);
        report.table({
          title: 'A web server is not heard, at the longest',
          columns: [
            { name: 'time', unit: 's' },
            { name: 'questions missed', unit: '' },
          ],
          rows: [
            row(`apply, ${megabytes} MB`, applied.polled),
            row('switch', switched),
            row('kexec', kexeced),
            row('firmware', rebooted),
          ],
          plot: 'time',
        });
        report.note(breakdown(applied));
        report.goal(`apply of a delta of ${megabytes} MB`, applied.seconds, 'at most', 3, 's');
        report.goal('switch to firmware', switched.longest / rebooted.longest, 'at most', 0.4);
        report.goal('kexec to firmware', kexeced.longest / rebooted.longest, 'at most', 0.8);
      } finally {
        await machine.end();
      }
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  });
});
