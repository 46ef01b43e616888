import type { CommandSpec } from './command.ts';

/** Commands that make images, and look after those of a store. */
export const imageCommands: readonly CommandSpec[] = [
  {
    name: 'build',
    summary: 'build a full image of a profile',
    description:
      'Takes the packages of the lock (made when there is none, or when the profile asks for others), builds the system in\nstages, packs, proves and seals it. Stages whose inputs did not change are taken from the cache; where nothing changed\nat all, no image is made. relive lock brings newer packages.',
    arguments: [
      { name: '<profile>', description: 'the name of a profile of the site', completes: 'profile' },
    ],
    options: [
      { flags: '--offline', description: 'use what the mirror has, and no network' },
      {
        flags: '--locked',
        description: 'fail where there is no lock, or the profile asks for other packages',
      },
      { flags: '--timings', description: 'say how long each stage took; image show tells it later' },
    ],
    examples: [
      { command: 'relive build demo', says: 'the next image of the profile demo' },
      { command: 'relive build demo --offline', says: 'out of the local mirror alone' },
    ],
    mounts: true,
    load: async () => await import('./build.ts'),
  },
  {
    name: 'update',
    summary: 'make the next image as a small layer on the newest one',
    description:
      'Resolves the packages anew, builds the system in stages (those that did not change are in the cache), and packs what differs\nfrom the newest image: as a delta on its layers. The stack shows what a full image would show, and is proven to before it\nis published. Where nothing differs no image is made. A new kernel has its layer replaced; the fifth delta takes the place of\nthose before; deltas of more than half of the layers below make a full image. A damaged image is not built upon. The image is booted as by\nrelive image test, and published if it passes; else it stays in STORE/candidates with its consoles, until an update succeeds.',
    arguments: [
      { name: '<profile>', description: 'the name of a profile of the site', completes: 'profile' },
    ],
    options: [
      {
        flags: '--plan',
        description: 'make nothing: say which packages would change, and what that asks of a machine',
      },
      { flags: '--no-test', description: 'publish the image without booting it in QEMU first' },
      { flags: '--full', description: 'a full image, needing none before' },
      {
        flags: '--from <image>',
        description: 'build upon this image (default: the newest)',
        completes: 'image',
      },
      { flags: '--offline', description: 'use what the mirror has, and no network' },
      { flags: '--timings', description: 'say how long each stage took; image show tells it later' },
    ],
    examples: [
      { command: 'relive update demo --plan', says: 'what there would be to bring' },
      { command: 'relive update demo', says: 'the next image' },
      { command: 'relive update demo --full', says: 'a new base' },
    ],
    mounts: true,
    load: async () => await import('./update.ts'),
  },
  {
    name: 'image list',
    summary: 'list the images in the store',
    options: [
      { flags: '--candidates', description: 'those that failed the test of an update instead, and why' },
    ],
    examples: [
      { command: 'relive image list', says: 'by profile, newest first' },
      { command: 'relive image list --candidates', says: 'what was not published' },
    ],
    load: async () => await import('./image-list.ts'),
  },
  {
    name: 'image show',
    summary: 'show what an image consists of',
    arguments: [
      { name: '<image>', description: 'an image, or a profile for its newest one', completes: 'image' },
    ],
    options: [{ flags: '--packages', description: 'list its packages, too' }],
    examples: [
      { command: 'relive image show demo', says: 'the newest image of demo' },
      { command: 'relive image show demo --packages', says: 'with its packages and their versions' },
    ],
    load: async () => await import('./image-show.ts'),
  },
  {
    name: 'image diff',
    summary: 'explain how two images differ, down to the file',
    description:
      'What their manifests say, packages, units, and every entry of their trees: content, mode, owner, attributes, time; so too of\ntheir initrds where these differ. Exit status 1 when there is any difference.',
    arguments: [
      { name: '<image>', description: 'an image, or a profile for its newest one', completes: 'image' },
      {
        name: '[image]',
        description: 'the image to compare it with (default: the first with the one before it)',
        completes: 'image',
      },
    ],
    options: [
      { flags: '--all', description: 'list every entry, also those that differ in their time only' },
      { flags: '--html <file>', description: 'write a page to read, too', completes: 'file' },
    ],
    examples: [
      { command: 'relive image diff demo', says: 'what the newest image brought' },
      { command: 'relive image diff demo-20261122.01 demo-20261122.02', says: 'from one image to another' },
      { command: 'relive image diff demo --html diff.html', says: 'as a page' },
    ],
    mounts: true,
    load: async () => await import('./image-diff.ts'),
  },
  {
    name: 'image sbom',
    summary: 'the bill of materials of an image, as CycloneDX',
    description:
      'Checks the image, then writes CycloneDX 1.6 (JSON): each package that its own dpkg knows, with package URL, digest, source,\nlicences as far as copyright files are machine-readable, and what it depends on; the layers, kernel and initrd. The same image\ngives the same text.',
    arguments: [
      { name: '<image>', description: 'an image, or a profile for its newest one', completes: 'image' },
    ],
    options: [
      {
        flags: '--tracker <file>',
        description: "with the known vulnerabilities, out of the data of Debian's security tracker",
        completes: 'file',
      },
      {
        flags: '--output <file>',
        description: 'where to write it (default: standard output)',
        completes: 'file',
      },
    ],
    examples: [
      { command: 'relive image sbom demo', says: 'of the newest image of demo' },
      { command: 'relive image sbom demo --output demo.cdx.json', says: 'into a file' },
    ],
    load: async () => await import('./image-sbom.ts'),
  },
  {
    name: 'image vulnerabilities',
    summary: 'known vulnerabilities of the packages in an image',
    description:
      "By the data of Debian's security tracker, which you fetch (https://security-tracker.debian.org/tracker/data/json, some 70 MB), for\nthe source packages in the versions that the image's own dpkg knows. Exit status 1 when it has any that matter.",
    arguments: [
      { name: '<image>', description: 'an image, or a profile for its newest one', completes: 'image' },
    ],
    options: [
      { flags: '--tracker <file>', description: 'the data of the tracker (required)', completes: 'file' },
      { flags: '--all', description: 'list those, too, that Debian calls unimportant' },
    ],
    examples: [
      {
        command: 'relive image vulnerabilities demo --tracker tracker.json',
        says: 'what is known of the newest image of demo',
      },
    ],
    load: async () => await import('./image-vulnerabilities.ts'),
  },
  {
    name: 'image verify',
    summary: 'check images, from the signatures down to every layer',
    arguments: [
      {
        name: '[image]',
        description: 'an image, or a profile for its newest one; all images without it',
        completes: 'image',
      },
    ],
    examples: [
      { command: 'relive image verify', says: 'all images of the store' },
      { command: 'relive image verify demo-20261122.01', says: 'one image; exit status 1 names every fault' },
    ],
    load: async () => await import('./image-verify.ts'),
  },
  {
    name: 'image remove',
    summary: 'remove images, and the layers that no other image needs',
    arguments: [{ name: '<image...>', description: 'images, each by its whole name', completes: 'image' }],
    examples: [
      { command: 'relive image remove demo-20261122.01', says: 'this one; others keep their layers' },
    ],
    load: async () => await import('./image-remove.ts'),
  },
  {
    name: 'image prune',
    summary: 'remove the images that the retention of their profiles lets go',
    description:
      'A profile keeps its newest image in any case, and what "retention" says: keep (the newest ones), daily, weekly, monthly (the newest\nof each day, week, month). Without it all stay; so do pinned images, those in channels,\nthe one that this machine runs and the last good one.',
    arguments: [{ name: '[profile...]', description: 'profiles; all without it', completes: 'profile' }],
    options: [{ flags: '--plan', description: 'remove nothing, explain every decision' }],
    examples: [
      { command: 'relive image prune --plan', says: 'what would go, and why each other image stays' },
      { command: 'relive image prune', says: 'remove it' },
    ],
    load: async () => await import('./image-prune.ts'),
  },
  {
    name: 'image test',
    summary: 'boot an image in QEMU by each firmware, until it reports itself healthy',
    description:
      "Through the GRUB of its ISO, as a machine would: on PCs by BIOS and UEFI (by the site's keys alone, where it is for Secure Boot), else\nby UEFI; at once where cores and memory allow. An image whose initramfs lacks relive's script does not pass. Exit status 1\nwhen one boot fails. Consoles are kept in the cache, consoles/IMAGE.",
    arguments: [
      { name: '<image>', description: 'an image, or a profile for its newest one', completes: 'image' },
    ],
    options: [
      {
        flags: '--firmware <kinds>',
        description: 'only these of bios, uefi, uefi32, secure-boot, shim, microsoft, separated by commas',
        completes: ['bios', 'uefi', 'uefi32', 'secure-boot', 'shim', 'microsoft', 'bios,uefi'],
      },
      {
        flags: '--accel <kind>',
        description: 'KVM, emulation, or KVM where a tiny guest proves that it works',
        choices: ['auto', 'kvm', 'tcg'],
        default: 'auto',
      },
      {
        flags: '--memory <mib>',
        description: 'memory of each machine in MiB (default: 1024, and what the image copies to RAM)',
      },
      {
        flags: '--timeout <seconds>',
        description: 'how long each may take until it is healthy (default: 300; emulated 900)',
      },
    ],
    examples: [
      { command: 'relive image test demo', says: 'by all that can start it' },
      { command: 'relive image test demo --firmware uefi', says: 'by UEFI only' },
    ],
    load: async () => await import('./image-test.ts'),
  },
  {
    name: 'image pin',
    summary: 'keep an image: neither remove nor prune take it away',
    arguments: [
      { name: '<image>', description: 'an image, or a profile for its newest one', completes: 'image' },
    ],
    examples: [{ command: 'relive image pin demo-20261122.01', says: 'until: relive image unpin' }],
    load: async () => await import('./image-pin.ts'),
  },
  {
    name: 'image unpin',
    summary: 'take the pin of an image away',
    arguments: [
      { name: '<image>', description: 'an image, or a profile for its newest one', completes: 'image' },
    ],
    examples: [{ command: 'relive image unpin demo-20261122.01', says: 'it may go again' }],
    load: async () => await import('./image-unpin.ts'),
  },
  {
    name: 'image export',
    summary: 'write an image as one file: an ISO that boots, a container, a bundle for another store',
    description:
      'The ISO starts by BIOS and UEFI (for arm64 and armhf by UEFI), from a CD or written byte for byte to a USB stick. GRUB checks the signatures of all\nthat it reads by the public keys of the site. Containers become OCI archives, which podman and skopeo load; the tree of any image\nbecomes a tar archive. The same image gives the same bytes.\nA bundle is for relive image import on another machine; with --since only what the image named there does not have.',
    arguments: [
      { name: '<image>', description: 'an image, or a profile for its newest one', completes: 'image' },
    ],
    options: [
      {
        flags: '--iso [file]',
        description: 'a hybrid ISO (default: isos/IMAGE.iso in the store)',
        completes: 'file',
      },
      { flags: '--oci <file>', description: 'an OCI archive, of a container', completes: 'file' },
      { flags: '--tar <file>', description: 'the whole tree as a tar archive', completes: 'file' },
      {
        flags: '--bundle <file>',
        description: 'a bundle; - is standard output',
        completes: 'file',
      },
      {
        flags: '--since <image>',
        description: 'of a bundle: leave out the layers of this image, which the receiver has',
        completes: 'image',
      },
    ],
    examples: [
      { command: 'relive image export demo --iso', says: 'the newest image of demo, into the store' },
      { command: 'relive image export demo-20261122.01 --iso /tmp/demo.iso', says: 'one image, elsewhere' },
      { command: 'relive image export box --oci box.tar', says: 'then: podman load --input box.tar' },
      { command: 'relive image export demo --bundle demo.bundle', says: 'for another store' },
      {
        command:
          'relive image export demo --bundle - --since demo-20261122.01 | ssh far relive image import -',
        says: 'through a pipe, only what is new',
      },
    ],
    mounts: ({ oci, tar }) => oci !== undefined || tar !== undefined,
    load: async () => await import('./image-export.ts'),
  },
  {
    name: 'image flatten',
    summary: 'make the next image of the newest one, with the same tree and without deltas',
    description:
      'The tree, the kernel, the initrd and the packages are the same, and proven to be; only the layers are new: a base and a kernel\nlayer. An image without deltas is left as it is. Older images stay as they are; when they go, so do the deltas.',
    arguments: [
      { name: '<image>', description: 'the newest image of a profile, or the profile', completes: 'image' },
    ],
    examples: [
      { command: 'relive image flatten demo', says: 'of base, kernel and deltas make base and kernel' },
    ],
    mounts: true,
    load: async () => await import('./image-flatten.ts'),
  },
  {
    name: 'image import',
    summary: 'bring the image of a bundle into the store',
    description:
      'Reads the bundle once. The manifest must be signed by a key of the site (keys/public.asc) or of --keyring before anything else\nis read; each layer is checked while it is received, and the image appears complete or not at all. Layers that the store has\nare not written again, nor those which an import that was cut off has received. Layers that are missing are named all at once.',
    arguments: [{ name: '<file>', description: 'a bundle; - is standard input', completes: 'file' }],
    options: [
      {
        flags: '--keyring <file>',
        description: "trust these public keys instead of the site's, armoured or binary",
        completes: 'file',
      },
      { flags: '--plan', description: 'say what would be done; only the head of the bundle is read' },
    ],
    examples: [
      { command: 'relive image import demo.bundle', says: 'of a site whose keys this site has' },
      { command: 'relive image import demo.bundle --plan', says: 'what is in it, and what is missing here' },
      {
        command: 'relive image import - --keyring other.asc <demo.bundle',
        says: 'from a pipe, of another site',
      },
    ],
    load: async () => await import('./image-import.ts'),
  },
  {
    name: 'image compare',
    summary: 'pack the system of a profile with every compression, and say what each comes to',
    description:
      'Builds the stages (or takes them from the cache), packs the whole tree with gzip, lzma, lzo, lz4, xz and zstd, and reads\nevery file once. The compression of the profile is taken with its level, the others with their own. Publishes nothing.',
    arguments: [
      { name: '<profile>', description: 'the name of a profile of the site', completes: 'profile' },
    ],
    options: [{ flags: '--offline', description: 'use what the mirror has, and no network' }],
    examples: [
      { command: 'relive image compare demo', says: 'size, time to pack, time to read, who can boot it' },
    ],
    mounts: true,
    load: async () => await import('./image-compare.ts'),
  },
];
