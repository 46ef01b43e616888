import { spawnSync } from 'node:child_process';
import { appendFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { sha256 } from '../../../src/host/files.ts';
import { type BootManifest, formatManifest, layerFile, verityFile } from '../../../src/image/manifest.ts';
import { repository, temporaryDirectory } from '../../support.ts';
import { exampleManifest } from '../../unit/image/example.ts';

/** The boot script's functions, with what ends a machine ending a shell instead. */
const script = `
. ${repository}/runtime/initramfs/relive
relive_say () { echo "$*"; }
relive_stop () { echo "stopped: $*"; exit 1; }
sleep () { :; }
reboot () { exit 0; }
relive_home="$1"
relive_medium="$1/medium"
relive_image=demo-20261122.01
relive_verify_all
`;

interface Medium {
  readonly home: string;
  /** Every file of the image, as a path on the medium. */
  readonly files: readonly string[];
}

function makeMedium(): Medium {
  const home = temporaryDirectory();
  const files: Record<string, string> = {};
  const add = (path: string, content: string): { readonly digest: string; readonly size: number } => {
    files[path] = content;
    return { digest: sha256(content), size: content.length };
  };
  const layers = exampleManifest.layers.map((layer, index) => {
    const content = `layer ${index}\n`;
    const digest = sha256(content);
    const squashfs = add(`live/${layerFile({ digest })}`, content);
    const tree = add(`live/${verityFile({ digest })}`, `tree ${index}\n`);
    return { ...layer, ...squashfs, verity: { ...layer.verity, ...tree } };
  });
  const directory = 'images/demo/20261122.01';
  const manifest: BootManifest = {
    ...exampleManifest,
    layers,
    kernel: { ...exampleManifest.kernel, ...add(`${directory}/vmlinuz`, 'kernel\n') },
    initrd: add(`${directory}/initrd.img`, 'initrd\n'),
  };
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(home, 'medium', path)), { recursive: true });
    writeFileSync(join(home, 'medium', path), content);
  }
  writeFileSync(join(home, 'manifest.json'), formatManifest(manifest));
  return { home, files: Object.keys(files) };
}

function verify({ home }: Medium): { readonly status: number | null; readonly lines: readonly string[] } {
  const { status, stdout, stderr } = spawnSync('dash', ['-c', script, 'sh', home], { encoding: 'utf8' });
  return { status, lines: `${stdout}${stderr}`.trimEnd().split('\n') };
}

test('relive.verify-only reads every file of the image, and says so', () => {
  const medium = makeMedium();
  expect(medium.files).toHaveLength(6);
  expect(verify(medium)).toEqual({
    status: 0,
    lines: [
      ...medium.files.map((path) => `checking ${path}`),
      'verified demo-20261122.01: every byte of it is what was signed. The machine restarts in 15 s.',
    ],
  });
});

test('relive.verify-only names each file that is another one, cut off, or missing', () => {
  for (const path of makeMedium().files) {
    const changed = makeMedium();
    const file = join(changed.home, 'medium', path);
    rmSync(file);
    expect(verify(changed)).toMatchObject({
      status: 1,
      lines: expect.arrayContaining([`stopped: ${path} is missing from the medium`]),
    });
    writeFileSync(file, 'x'.repeat(path.endsWith('.squashfs') ? 8 : 7));
    expect(verify(changed).lines.at(-1)).toBe(
      `stopped: ${path} is damaged: it has another SHA-256 than its manifest says`,
    );
    appendFileSync(file, 'x');
    expect(verify(changed).lines.at(-1)).toMatch(`stopped: ${path} is damaged: it has not the `);
  }
});
