/** A repository that upstream brings up to date now and then, for tools/chaos.js: made-up packages, really signed, on a web server. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const packages = 120;
const largest = 200_000;
const placeOf = (index, version) => `pool/main/p/p${index}/p${index}_${version}_amd64.deb`;
const sha256 = (content) => createHash('sha256').update(content).digest('hex');

/**
 * @param directory for the key
 * @param random numbers from 0 to 1: what packages there are and how large they are
 */
export async function startUpstream(directory, random) {
  const home = join(directory, 'gnupg');
  mkdirSync(home, { mode: 0o700 });
  const gpg = (args, input) =>
    execFileSync('gpg', ['--homedir', home, '--batch', '--quiet', '--passphrase', '', ...args], {
      input,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
  gpg(['--quick-generate-key', 'Chaos <chaos@example.org>', 'ed25519', 'sign', 'never']);
  const keyring = join(directory, 'upstream.gpg');
  writeFileSync(keyring, gpg(['--export']));

  const files = new Map();
  const contents = Array.from({ length: packages }, () => undefined);
  let generation = 0;
  const newContent = (index) => {
    const content = Buffer.alloc(1 + Math.floor(random() * largest), `package ${index} of ${random()}\n`);
    contents[index] = { version: `1.${generation}`, content };
  };

  /** Brings some packages up to date, the first time all, and signs what there is then. */
  function advance() {
    generation += 1;
    for (const index of contents.keys()) {
      if (contents[index] === undefined || random() < 0.2) newContent(index);
    }
    const stanzas = contents.map(({ version, content }, index) => {
      const name = `p${index}`;
      const path = placeOf(index, version);
      files.set(path, content);
      return `Package: ${name}\nVersion: ${version}\nArchitecture: amd64\nFilename: ${path}\nSize: ${content.length}\nSHA256: ${sha256(content)}\n`;
    });
    const plain = Buffer.from(stanzas.join('\n'));
    const packed = gzipSync(plain);
    const listed = [
      ['main/binary-amd64/Packages', plain],
      ['main/binary-amd64/Packages.gz', packed],
    ].map(([path, content]) => ` ${sha256(content)} ${content.length} ${path}`);
    files.set('dists/stable/main/binary-amd64/Packages.gz', packed);
    const release = [
      ...['Origin: Chaos', 'Label: Chaos', 'Suite: stable', 'Codename: stable'],
      `Date: ${new Date(Date.UTC(2026, 0, 1) + generation * 60_000).toUTCString().replace('GMT', 'UTC')}`,
      ...['Architectures: amd64', 'Components: main', 'SHA256:', ...listed, ''],
    ].join('\n');
    files.set('dists/stable/InRelease', gpg(['--clear-sign'], release));
  }
  advance();

  const server = createServer((request, response) => {
    const content = files.get(decodeURIComponent((request.url ?? '/').slice(1)));
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    if (content === undefined) response.writeHead(404).end();
    else if (from === 0) response.writeHead(200, { 'content-length': content.length }).end(content);
    else if (from >= content.length) response.writeHead(416).end();
    else {
      const range = `bytes ${from}-${content.length - 1}/${content.length}`;
      response.writeHead(206, { 'content-range': range, 'content-length': content.length - from });
      response.end(content.subarray(from));
    }
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    keyring,
    advance,
    /** What clients must see in the end. */
    release: () => files.get('dists/stable/InRelease'),
    /** Where the packages are that are in force. */
    paths: () => contents.map(({ version }, index) => placeOf(index, version)),
    /** Bytes of all packages that are in force. */
    size: () => contents.reduce((sum, { content }) => sum + content.length, 0),
    close: () => {
      server.closeAllConnections();
      server.close();
      execFileSync('gpgconf', ['--homedir', home, '--kill', 'all']);
    },
  };
}

/** The file that clients of a mirror see, or undefined. */
export function releaseOf(repository) {
  try {
    return readFileSync(join(repository, 'dists/stable/InRelease'));
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}
