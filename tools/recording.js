/**
 * `npm run recording`: a session of relive on a site of its own, really run, recorded and drawn: docs/images/session.cast (asciicast v2,
 * docs.asciinema.org/manual/asciicast/v2) and docs/images/session.svg. Root, and a few minutes. It runs below /srv, in a mount
 * namespace; what it asks ftp.debian.org for comes from the archive of this machine's apt, through a proxy of its own.
 */
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { drawing } from './recording-svg.js';

const [width, height] = [100, 30];
/** A command that takes longer is shown so much faster that it takes this long; no two changes are closer than the other. */
const [longest, closest] = [5, 0.12];
const archives = {
  'http://ftp.debian.org/debian/': 'Debian',
  'http://security.debian.org/debian-security/': 'Debian-Security',
};
const session = [
  'relive init lab --archive http://ftp.debian.org/debian --security-archive http://security.debian.org/debian-security',
  'cd lab',
  'relive keys create',
  'relive lock demo',
  'relive mirror sync',
  'relive build demo',
  'relive image show demo',
  "sed -i 's/^version: 1/version: 2/; s/^  - less/&\\n  - htop/' profiles/demo.yaml",
  'relive lock demo',
  'relive update demo --plan',
];

/** Where this machine's apt has an archive, by the label in its Release file. */
const targets = execFileSync(
  'apt-get',
  ['indextargets', '--format', '$(REPO_URI) $(LABEL)', 'Created-By: Packages'],
  { encoding: 'utf8' },
)
  .trim()
  .split('\n')
  .map((line) => line.split(' '));
function placeOf(url) {
  for (const [prefix, label] of Object.entries(archives)) {
    const [place] = targets.find(([, each]) => each === label) ?? [];
    if (url.startsWith(prefix) && place !== undefined) return place + url.slice(prefix.length);
  }
  throw new Error(`the recording asks for ${url}, of which apt knows nothing`);
}
const proxy = createServer((incoming, response) => {
  const { 'proxy-connection': _, host: __, ...headers } = incoming.headers;
  const asked = request(placeOf(incoming.url), { method: incoming.method, headers }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  asked.once('error', () => response.writeHead(502).end());
  incoming.pipe(asked);
});
await new Promise((done) => proxy.listen(0, '127.0.0.1', done));

const work = mkdtempSync(join(tmpdir(), 'relive-recording-'));
execFileSync('mount', ['--bind', work, '/srv']);
const programs = join(work, '.bin');
mkdirSync(programs);
writeFileSync(
  join(programs, 'relive'),
  `#!/bin/sh\nexec node ${join(import.meta.dirname, '../dist/cli.cjs')} "$@"\n`,
);
chmodSync(join(programs, 'relive'), 0o755);

let directory = '/srv';
/** Runs a command on a pseudo-terminal. @returns what it wrote, and when: seconds since it began */
async function played(command) {
  if (command.startsWith('cd ')) {
    directory = join(directory, command.slice(3));
    return [];
  }
  const begun = performance.now();
  const script = `stty cols ${width} rows ${height}; ${command}`;
  const child = spawn('script', ['--quiet', '--return', '--flush', '--command', script, '/dev/null'], {
    cwd: directory,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      PATH: `${programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
      HOME: '/root',
      LC_ALL: 'C.UTF-8',
      TERM: 'xterm-256color',
      http_proxy: `http://127.0.0.1:${proxy.address().port}`,
    },
  });
  const events = [];
  child.stdout.setEncoding('utf8');
  child.stdout.on('data', (text) => events.push([(performance.now() - begun) / 1000, text]));
  const status = await new Promise((done) => child.once('close', done));
  if (status !== 0)
    throw new Error(`${command}: status ${status}\n${events.map(([, text]) => text).join('')}`);
  return events;
}

const events = [];
let now = 0.5;
try {
  for (const command of session) {
    process.stderr.write(`${command}\n`);
    events.push([now, '\u001b[32m$\u001b[39m ']);
    for (const [index, letter] of command.split('').entries())
      events.push([now + 0.4 + (0.8 * index) / command.length, letter]);
    now += 1.4;
    events.push([now, '\r\n']);
    const output = await played(command);
    const took = output.at(-1)?.[0] ?? 0;
    const scale = Math.min(1, longest / took);
    events.push(...output.map(([at, text]) => [now + at * scale, text]));
    now += took * scale + 0.8;
  }
} finally {
  proxy.closeAllConnections();
  proxy.close();
  execFileSync('umount', ['/srv']);
  rmSync(work, { recursive: true, force: true });
}

/** What comes soon after one another comes at once. */
const merged = [];
for (const [at, text] of events) {
  const last = merged.at(-1);
  if (last !== undefined && at - last[0] < closest) last[1] += text;
  else merged.push([at, text]);
}
const images = join(import.meta.dirname, '../docs/images');
const header = { version: 2, width, height, title: 'relive: from nothing to the plan of an update' };
const rounded = merged.map(([at, text]) => [Number(at.toFixed(2)), text]);
const lines = [header, ...rounded.map(([at, text]) => [at, 'o', text])];
writeFileSync(join(images, 'session.cast'), lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
writeFileSync(join(images, 'session.svg'), drawing(rounded, header));
