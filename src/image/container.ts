import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { ReliveError } from '../core/error.ts';
import { type Context, inStage } from '../core/event.ts';
import { version as reliveVersion } from '../core/version.ts';
import { withScratchDirectory } from '../host/anonymous.ts';
import {
  digestFile,
  entryExists,
  exists,
  explainDiskFull,
  makeDirectories,
  regularText,
  sha256,
  syncDirectory,
  syncFile,
} from '../host/files.ts';
import { run } from '../host/process.ts';
import type { Manifest } from './manifest.ts';
import { storedLayers, withStack } from './mount.ts';
import { findImage, readManifest, type StoredImage } from './store.ts';

/** The stage that the events of an export belong to. */
const exportStage = 'export';

/** The media types of the OCI image specification, 1.1. */
const types = {
  index: 'application/vnd.oci.image.index.v1+json',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
} as const;

/** Debian's architectures in the words of Go, which the OCI image configuration uses. */
const platforms: Readonly<Record<string, object>> = {
  amd64: { architecture: 'amd64' },
  arm64: { architecture: 'arm64' },
  armhf: { architecture: 'arm', variant: 'v7' },
  i386: { architecture: '386' },
};

/** The same order, owners by number, and no time or attribute that packing itself makes. */
const tarArguments = [
  ...['--create', '--format=posix', '--sort=name', '--numeric-owner', '--xattrs', '--no-acls'],
  ...['--xattrs-include=security.*', '--xattrs-include=user.*'],
  '--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime',
];

export interface ContainerOptions {
  /** An OCI archive (OCI image layout in a tar archive), or the tree itself. */
  readonly format: 'oci' | 'tar';
  readonly output: string;
}

/**
 * Writes an image as one file that container tools load. Must run inside the private namespaces.
 * @param name an image, or a profile for its newest one
 * @throws ReliveError `not-found`, `usage` (a system for a machine as an OCI archive), `disk-full`
 */
export async function exportContainer(
  store: string,
  name: string,
  { format, output }: ContainerOptions,
  context: Context,
): Promise<{ readonly image: string; readonly file: string; readonly bytes: number }> {
  const image = await findImage(store, name);
  const manifest = await readManifest(image);
  if (format === 'oci' && manifest.host !== 'container') {
    throw new ReliveError('usage', `${image.name} is a system for ${manifest.host}, not a container`, {
      hint: 'write "host: container" into a profile that extends this one, or export the tree with --tar FILE',
    });
  }
  const file = resolve(output);
  if (!(await exists(dirname(file)))) {
    throw new ReliveError('usage', `there is no directory ${dirname(file)} to write into`);
  }
  return await inStage(context, exportStage, async () => {
    try {
      return await withScratchDirectory(dirname(file), async (scratch) => {
        const tree = join(scratch, 'tree.tar');
        await withStack(storedLayers(store, manifest), join(scratch, 'stack'), context, async (root) => {
          await run('tar', [...tarArguments, '--file', tree, '--directory', root, '.'], context);
          if (format === 'oci') await writeOci({ image, manifest, root, tree, scratch }, context);
        });
        const made = format === 'tar' ? tree : join(scratch, 'oci.tar');
        await publish(made, file);
        return { image: image.name, file, bytes: (await stat(file)).size };
      });
    } catch (error) {
      throw explainDiskFull(error, file);
    }
  });
}

async function publish(made: string, file: string): Promise<void> {
  await syncFile(made);
  await rename(made, file);
  await syncDirectory(dirname(file));
}

interface OciParts {
  readonly image: StoredImage;
  readonly manifest: Manifest;
  readonly root: string;
  /** The tree as a tar archive. */
  readonly tree: string;
  readonly scratch: string;
}

/** An OCI image layout (image-layout.md) with one layer, as scratch/oci.tar. */
async function writeOci({ image, manifest, root, tree, scratch }: OciParts, context: Context): Promise<void> {
  const layout = join(scratch, 'oci');
  const blobs = join(layout, 'blobs/sha256');
  await makeDirectories(blobs);
  const addText = async (mediaType: string, value: object) => {
    const text = JSON.stringify(value);
    const digest = sha256(text);
    await writeFile(join(blobs, digest), text);
    return { mediaType, digest: `sha256:${digest}`, size: Buffer.byteLength(text) };
  };
  const { diffId, layer } = await addLayer(tree, blobs, context);
  const created = new Date(manifest.sourceDateEpoch * 1000).toISOString().replace('.000Z', 'Z');
  const config = await addText(types.config, {
    created,
    ...platforms[manifest.architecture],
    os: 'linux',
    config: {
      Env: [
        'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
        ...(await languageOf(root)).map((language) => `LANG=${language}`),
      ],
      Cmd: [(await entryExists(join(root, 'usr/sbin/init'))) ? '/usr/sbin/init' : '/bin/bash'],
      Labels: {
        'org.opencontainers.image.title': manifest.profile.name,
        'org.opencontainers.image.version': manifest.version,
        'relive.tree': `sha256:${manifest.tree}`,
      },
    },
    rootfs: { type: 'layers', diff_ids: [diffId] },
    history: [{ created, created_by: `relive ${reliveVersion}`, comment: manifest.image }],
  });
  const described = await addText(types.manifest, {
    schemaVersion: 2,
    mediaType: types.manifest,
    config,
    layers: [layer],
  });
  const annotations = { 'org.opencontainers.image.ref.name': `${image.profile}:${image.version}` };
  await writeFile(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  await writeFile(
    join(layout, 'index.json'),
    JSON.stringify({ schemaVersion: 2, mediaType: types.index, manifests: [{ ...described, annotations }] }),
  );
  await run(
    'tar',
    [
      ...tarArguments,
      ...[`--mtime=@${manifest.sourceDateEpoch}`, '--owner=0', '--group=0', '--mode=u=rwX,go=rX'],
      ...['--file', join(scratch, 'oci.tar'), '--directory', layout, 'oci-layout', 'index.json', 'blobs'],
    ],
    context,
  );
}

/** Compresses the tree into a blob. The uncompressed archive's digest is the layer's identity. */
async function addLayer(tree: string, blobs: string, { signal }: Context) {
  const plain = createHash('sha256');
  const hashing = new Transform({
    transform: (chunk: Buffer, _encoding, done) => {
      plain.update(chunk);
      done(undefined, chunk);
    },
  });
  const made = join(blobs, 'layer');
  await pipeline(createReadStream(tree), hashing, createGzip(), createWriteStream(made), { signal });
  const { digest, size } = await digestFile(made, 'sha256', signal);
  await rename(made, join(blobs, digest));
  await rm(tree);
  return {
    diffId: `sha256:${plain.digest('hex')}`,
    layer: { mediaType: types.layer, digest: `sha256:${digest}`, size },
  };
}

/** The language that the system is set to (locale.conf(5)). */
async function languageOf(root: string): Promise<string[]> {
  // A link would be followed on the host.
  const text = (await regularText(join(root, 'etc/locale.conf'))) ?? '';
  const [, language] = /^LANG=([A-Za-z0-9_.@-]+)$/m.exec(text) ?? [];
  return language === undefined ? [] : [language];
}
