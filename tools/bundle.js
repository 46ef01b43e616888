// Makes dist/ of src/ (npm run build): the starter, the program and the code of its threads, each one file with the
// libraries it uses. What Node.js need not look for and read in hundreds of files starts in half the time.
import { chmodSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { rolldown } from 'rolldown';

const root = join(import.meta.dirname, '..');
const entries = {
  cli: 'src/cli.ts',
  program: 'src/program.ts',
  'verify-worker': 'src/mirror/verify-worker.ts',
  'download-worker': 'src/host/download-worker.ts',
};
// Beside it first: who runs relive meanwhile finds the old one whole or the new one.
const directory = join(root, `dist.${process.pid}`);
mkdirSync(directory);

/** A string of ASCII takes V8 half the memory and time. Only string literals of ours have other characters. */
const inAscii = (code) =>
  code.replaceAll(/[^\0-\u007F]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);

/** Parts of Node.js that few commands use: what starts is not to wait until they are compiled. */
const seldom = new Set(['http', 'net', 'readline/promises', 'stream/promises', 'worker_threads', 'zlib']);

/** Has such a part looked for where it is used, not at the start. */
function lazily(code) {
  let changed = code;
  for (const [line, name, part] of code.matchAll(/^let (node_\w+) = require\("node:([^"]+)"\);$/gm)) {
    if (!seldom.has(part)) continue;
    changed = changed.replace(line, `const ${name} = () => require("node:${part}");`);
    // In brackets: new a().B() would be (new a()).B().
    changed = changed.replaceAll(new RegExp(`\\b${name}\\.`, 'g'), `(${name}()).`);
    if (new RegExp(`\\b${name}\\b(?! = |\\(\\)\\)\\.)`).test(changed)) {
      throw new Error(`node:${part} is used in another way than by its members`);
    }
  }
  return changed;
}

/** The program as one expression, a function: the starter need not put the parts of so long a text together. */
const asFunction = (code) => `(function (exports, require, __filename, __dirname) { ${code}\n})\n`;

await Promise.all(
  Object.entries(entries).map(async ([name, input]) => {
    const bundle = await rolldown({ cwd: root, input, platform: 'node' });
    const { output } = await bundle.generate({ format: 'cjs', codeSplitting: false, comments: false });
    const code = inAscii(output[0].code);
    writeFileSync(join(directory, `${name}.cjs`), name === 'program' ? asFunction(lazily(code)) : code);
  }),
);
chmodSync(join(directory, 'cli.cjs'), 0o755);
rmSync(join(root, 'dist'), { recursive: true, force: true });
renameSync(directory, join(root, 'dist'));
