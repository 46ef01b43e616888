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
import { comparison, part, say } from './report.ts';
import { middle, newSite, roundsOr } from './site.ts';

/*
 * How long a web server in an emulated machine is not heard by a client of this host, when the machine is brought to
 * another image: by apply, switch, kexec and the firmware, in one guest. The next image has a newer nginx, which is that
 * server, and a file of 20 MB that no compression makes smaller; the one behind it a newer zlib1g, which four more services
 * have in memory. What restarts the system is done in rounds, RELIVE_BENCH_ROUNDS (3) in the environment, and of each the middle
 * one counts: emulation makes a start up to a third slower than another one, and the shortest would compare the luckiest.
 */

const megabytes = 20;
const rounds = roundsOr(3);

interface Prepared {
  readonly first: string;
  readonly second: string;
  readonly third: string;
  readonly medium: string;
}

/** Makes the site, its images and the medium. */
async function prepare(work: string): Promise<Prepared> {
  const directory = newSite(work);
  const site = { directory, mirror: join(directory, 'mirror') };
  const live = addLiveProfile(site);
  const update = async (): Promise<string> => await makeImage(site, 'update', liveProfile, '--no-test');
  try {
    const first = await makeImage(site, 'build', liveProfile);
    publishUpgrade(live, site, 'nginx');
    const file = join(directory, 'overlays', liveProfile, 'opt/data/large');
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, randomBytes(megabytes * 1024 * 1024));
    const second = await update();
    publishUpgrade(live, site, 'zlib1g');
    const third = await update();
    return { first, second, third, medium: await makeLiveMedium(site, first, second, third) };
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
  /** The services that were started anew. */
  readonly services: number;
}

/** A number of seconds that bash has measured. */
function secondsIn(text: string): number {
  return Number(/^seconds ([\d.]+)$/m.exec(text)?.[1]);
}

async function apply(machine: LiveMachine, image: string): Promise<Applied> {
  let text = '';
  const polled = await machine.polledWhile(async () => {
    text = await machine.succeed(
      `TIMEFORMAT='seconds %R'; time relive live apply ${image} --json 2>/dev/null`,
    );
  });
  const stages: Record<string, number> = {};
  for (const line of text.split('\n')) {
    const [, stage, seconds] = /"stage":"([^"]*)","state":"done","seconds":([\d.]+)/.exec(line) ?? [];
    if (stage !== undefined) stages[stage] = Number(seconds);
  }
  const bare = await machine.succeed("TIMEFORMAT='seconds %R'; time node --eval 0");
  const services = [...text.matchAll(/"message":"restarting /g)].length;
  return { polled, seconds: secondsIn(text), stages, node: secondsIn(bare), services };
}

/** In words, what the time of an apply went to. */
function breakdown({ seconds, stages, node, services: started }: Applied): string {
  const { verify = 0, compare = 0, apply: replay = 0, services = 0 } = stages;
  const rest = seconds - verify - compare - replay;
  const parts = [
    `verifying ${verify.toFixed(1)} s`,
    `comparing ${compare.toFixed(1)} s`,
    `copying and writing ${(replay - services).toFixed(1)} s`,
    `systemd with what starts anew (${started} of its services) ${services.toFixed(1)} s`,
    `the rest (start, signature, mounts, systemd and processes asked) ${rest.toFixed(1)} s`,
  ];
  return `the command of apply took ${seconds.toFixed(1)} s in the guest: ${parts.join(', ')}. Node.js alone starts in ${node.toFixed(1)} s there.`;
}

/** Brings the machine to an image, as its own command does, until it reports itself healthy. */
async function bring(machine: LiveMachine, words: string, image: string): Promise<Polled> {
  const polled = await machine.polledWhile(async () => {
    await machine.succeed(`relive live ${words} ${image}`);
    await machine.healthy(image);
  });
  say(`  ${words}: ${polled.longest.toFixed(1)} s`);
  return polled;
}

/** What is in the middle of some rounds: the time, and the questions missed. */
function middlePolled(all: readonly Polled[]): Polled {
  const of = (figure: keyof Polled): number => middle(all.map((polled) => polled[figure]));
  return { answered: of('answered'), missed: of('missed'), longest: of('longest') };
}

function row(name: string, { longest, missed }: Polled) {
  return { name, values: [longest, missed] };
}

comparison('live', async () => {
  await part({ bench: 'live', part: 'interruptions' }, ['qemu-system-x86_64'], async (report) => {
    const work = mkdtempSync(join(tmpdir(), 'relive-bench-live-'));
    try {
      const { first, second, third, medium } = await prepare(work);
      const machine = await LiveMachine.start(medium);
      try {
        await machine.healthy(first);
        const applied = await apply(machine, second);
        await machine.succeed('relive live undo');
        const again = await apply(machine, second);
        const library = await apply(machine, third);
        const switches: Polled[] = [];
        const kexecs: Polled[] = [];
        const reboots: Polled[] = [];
        for (let round = 0; round < rounds; round += 1) {
          switches.push(await bring(machine, 'switch', third));
          kexecs.push(await bring(machine, 'reboot', first));
          reboots.push(await bring(machine, 'reboot --firmware', first));
        }
        const switched = middlePolled(switches);
        const kexeced = middlePolled(kexecs);
        const rebooted = middlePolled(reboots);
        report.table({
          title: 'A web server is not heard, at the longest',
          columns: [
            { name: 'time', unit: 's' },
            { name: 'questions missed', unit: '' },
          ],
          rows: [
            row(`apply, ${megabytes} MB and the server`, applied.polled),
            row(`apply, a library of ${library.services} services`, library.polled),
            row('switch', switched),
            row('kexec', kexeced),
            row('firmware', rebooted),
          ],
          plot: 'time',
        });
        report.note(
          `${megabytes} MB and the server, the first command behind the boot: ${breakdown(applied)}`,
        );
        report.note(`The same once more, taken back before: ${breakdown(again)}`);
        report.note(`A library of ${library.services} services: ${breakdown(library)}`);
        const what = `apply of a delta of ${megabytes} MB`;
        report.goal(`interruption by ${what}`, applied.polled.longest, 'at most', 3, 's');
        report.goal(`the command as a whole, ${what}`, applied.seconds, 'at most', 3, 's');
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
