#!/usr/bin/env node
import { createHash } from 'node:crypto';
import {
  closeSync,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { Script } from 'node:vm';

/*
 * Starts the program, dist/program.cjs, from V8's compiled form of it where an earlier start left one: a third less time for
 * a command that does little. What module.enableCompileCache() of Node.js 22 does, for Node.js 20.
 */

const digestBytes = 32;
const othersMayWrite = 0o022;

const sha256 = (content: Buffer): Buffer => createHash('sha256').update(content).digest();

/** Where compiled code is kept, a file for each group of commands: each uses other parts of the program. */
function cacheFile(group: string | undefined): string {
  const home = process.getuid?.() === 0 ? '/var/cache' : join(homedir(), '.cache');
  const name = group !== undefined && /^[a-z]{1,16}$/.test(group) ? group : 'relive';
  return join(process.env['XDG_CACHE_HOME'] ?? home, 'relive', `${name}.compiled`);
}

/** The compiled code in a file that nobody else could have written, if it is whole and was made of this source. */
function readCompiled(file: string, source: Buffer): Buffer | undefined {
  try {
    const descriptor = openSync(file, 'r');
    try {
      const { uid, mode } = fstatSync(descriptor);
      if (uid !== process.getuid?.() || (mode & othersMayWrite) !== 0) return undefined;
      const content = readFileSync(descriptor);
      const code = content.subarray(2 * digestBytes);
      const expected = Buffer.concat([sha256(source), sha256(code)]);
      return content.subarray(0, 2 * digestBytes).equals(expected) ? code : undefined;
    } finally {
      closeSync(descriptor);
    }
  } catch {
    // There is none yet, or it cannot be read: the source can.
    return undefined;
  }
}

/** Keeps compiled code for the next start. Where that cannot be done, the next start takes longer. */
function writeCompiled(file: string, source: Buffer, code: Buffer): void {
  const incomplete = `${file}.${process.pid}`;
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    writeFileSync(incomplete, Buffer.concat([sha256(source), sha256(code), code]), { mode: 0o600 });
    renameSync(incomplete, file);
  } catch {
    try {
      rmSync(incomplete, { force: true });
    } catch {
      // Where nothing can be removed, nothing was written.
    }
  }
}

const path = join(import.meta.dirname, 'program.cjs');
const source = readFileSync(path);
const file = cacheFile(process.argv[2]);
const cachedData = readCompiled(file, source);
// A function (tools/bundle.js).
const script = new Script(source.toString('latin1'), {
  filename: path,
  ...(cachedData === undefined ? {} : { cachedData }),
});
if (cachedData === undefined || script.cachedDataRejected === true) {
  // At the end: the code of what ran is in it, then.
  process.once('exit', (status) => {
    if (status === 0) writeCompiled(file, source, script.createCachedData());
  });
}
const program: unknown = script.runInThisContext();
if (typeof program === 'function') {
  Reflect.apply(program, undefined, [{}, createRequire(path), path, dirname(path)]);
}
