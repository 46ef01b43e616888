import { z } from 'zod';
import * as syntax from './syntax.ts';
import { persistWays } from './volume.ts';

/*
 * What relive.yaml and a profile may hold: the one place. A key stands here when the code behind it does its work, and
 * not before. The JSON Schemas for editors (`npm run schemas`), the checks and the errors all come from here.
 */

export const suites = ['trixie', 'bookworm'] as const;
export const architectures = ['amd64', 'arm64', 'armhf', 'i386'] as const;
export const hosts = ['bare-metal', 'virtual-machine', 'container'] as const;
export const bootstraps = ['mmdebstrap', 'debootstrap'] as const;
export const verifications = ['signature', 'checksum', 'none'] as const;
export const checksums = ['sha256', 'sha512'] as const;
export const ramModes = ['none', 'layers', 'unpacked'] as const;
/** The stages that a script may come after, in the order of a build; `live` is the last, just before packing. */
export const scriptPoints = ['bootstrap', 'packages', 'files', 'configure', 'live'] as const;
export const scriptPlaces = ['system', 'host'] as const;
/** What tells a machine from another one with the same image. */
export const identityParts = ['machine-id', 'ssh-host-keys', 'hostname'] as const;

/** mksquashfs(1): the levels of those compressors that have some. */
const levels: Readonly<Record<string, readonly [number, number]>> = {
  gzip: [1, 9],
  lzo: [1, 9],
  zstd: [1, 22],
};
export const algorithms = ['gzip', 'lzma', 'lzo', 'lz4', 'xz', 'zstd'] as const;
/** gzip(1), xz(1), lzop(1), lz4(1), zstd(1). */
const initrdLevels: typeof levels = {
  gzip: [1, 9],
  lzma: [0, 9],
  lzo: [1, 9],
  lz4: [1, 12],
  xz: [0, 9],
  zstd: [1, 19],
};

/** relive.yaml */

/** Architectures of Debian that can be mirrored; `all` is the index of what is the same on each, where a repository has one. */
export const mirrorArchitectures = [
  ...[
    'amd64',
    'arm64',
    'armel',
    'armhf',
    'i386',
    'loong64',
    'mips64el',
    'ppc64el',
    'riscv64',
    's390x',
    'all',
  ],
] as const;
export const mirrorKinds = [
  ...['packages', 'sources', 'udebs', 'installer', 'translations', 'contents', 'dep11', 'cnf', 'pdiff'],
] as const;
export const overrides = ['expired', 'future', 'older', 'renamed', 'signer'] as const;
export const engines = ['native', 'debmirror', 'apt-mirror', 'ftpsync'] as const;
const words = z.array(syntax.wordPattern);
const days = z.int().min(0, 'a number of days').max(3650, 'a number of days');

const repository = z
  .strictObject({
    url: z
      .array(syntax.repositoryUrl)
      .min(1, 'one address or more')
      .meta({ description: 'Addresses of the archive; the later ones are fallbacks.' }),
    suites: z
      .array(syntax.mirroredSuite)
      .min(1, 'one suite or more')
      .meta({ description: 'Suites to take: trixie, trixie-updates; ./ for a flat repository.' }),
    components: z
      .array(syntax.componentName)
      .optional()
      .meta({ description: 'Components to take: main, non-free-firmware. None for a flat repository.' }),
    architectures: z
      .array(z.enum(mirrorArchitectures))
      .min(1, 'one architecture or more')
      .meta({ description: 'Architectures to take.' }),
    signedBy: syntax.signedBy.meta({
      description:
        'Whose signatures count: the path of a keyring (absolute, or from the site), or an armoured public key.',
    }),
    fingerprints: z
      .array(syntax.fingerprint)
      .min(1, 'one fingerprint or more')
      .optional()
      .meta({ description: 'Only these keys of signedBy count.' }),
    override: z.array(z.enum(overrides)).optional().meta({
      description: 'Rules of apt that this repository is let off; each use is warned about.',
    }),
    select: z.enum(['closure', 'all', 'filters']).optional().meta({
      description:
        'What of the pool is mirrored: what builds fetch, everything, or what filters name. Unless given: closure',
    }),
    filters: z
      .strictObject({
        names: words.optional().meta({ description: 'Names of packages; * stands for any characters.' }),
        sections: words.optional().meta({ description: 'Sections: admin, libs.' }),
        priorities: words.optional().meta({ description: 'Priorities: required, important.' }),
        sources: words.optional().meta({ description: 'Source packages: all that is built from them.' }),
        closureOf: z
          .array(syntax.packageName)
          .optional()
          .meta({ description: 'Packages with all they depend on.' }),
      })
      .optional()
      .meta({ description: 'With select: filters; a package that one of the lists names is mirrored.' }),
    kinds: z
      .array(z.enum(mirrorKinds))
      .min(1, 'one kind or more')
      .optional()
      .meta({ description: 'What to take of a suite. Unless given: packages' }),
    optional: z.array(z.enum(mirrorKinds)).optional().meta({
      description:
        'Kinds that a suite is published without when upstream lacks them. Unless given: translations, contents, dep11, cnf, pdiff',
    }),
    languages: z
      .array(syntax.languagePattern)
      .optional()
      .meta({ description: 'Languages of translations; "*" is all. Unless given: en' }),
    compressions: z
      .enum(['best', 'all'])
      .optional()
      .meta({ description: 'Forms of each index to take. Unless given: best' }),
    missing: z
      .strictObject({
        tolerate: words.meta({ description: 'Paths of the pool; * stands for any characters.' }),
      })
      .optional()
      .meta({ description: 'Pool files that may be missing upstream; each run says so.' }),
    engine: z
      .enum(engines)
      .optional()
      .meta({ description: 'The program that fetches; its work is verified. Unless given: native' }),
    transport: z
      .strictObject({
        parallel: z
          .int()
          .min(1, 'a number from 1 to 64')
          .max(64, 'a number from 1 to 64')
          .optional()
          .meta({ description: 'Connections at a time. Unless given: 4' }),
        bandwidth: syntax.byteRate.optional().meta({ description: 'The highest rate: 10 MB/s.' }),
        ca: syntax.hostPath.optional().meta({ description: 'A PEM file of certificate authorities.' }),
        certificate: syntax.hostPath.optional().meta({ description: 'A PEM file: our certificate.' }),
        key: syntax.hostPath.optional().meta({ description: 'A PEM file: the key of the certificate.' }),
      })
      .optional()
      .meta({ description: 'How files are fetched.' }),
    keep: z
      .strictObject({
        indices: days.optional().meta({ description: 'Days that replaced indices stay. Unless given: 14' }),
        pool: days.optional().meta({ description: 'Days that unneeded pool files stay. Unless given: 7' }),
        limit: z
          .int()
          .min(0, 'a share in percent')
          .max(100, 'a share in percent')
          .optional()
          .meta({ description: 'The share of the pool (percent) that may go in one run. Unless given: 40' }),
      })
      .optional()
      .meta({ description: 'How long what is not needed any more is kept.' }),
  })
  .superRefine((value, context) => {
    const flat = value.suites.some((suite) => suite.endsWith('/'));
    const refuse = (key: string, message: string): void =>
      context.addIssue({ code: 'custom', path: [key], message });
    if (flat && value.suites.length > 1) refuse('suites', 'one directory for each flat repository');
    if (flat && value.components !== undefined) refuse('components', 'none for a flat repository');
    if (!flat && (value.components ?? []).length === 0) refuse('components', 'one component or more');
    if ((value.select === 'filters') !== (value.filters !== undefined)) {
      refuse('filters', 'filters together with "select: filters"');
    }
    if ((value.transport?.certificate === undefined) !== (value.transport?.key === undefined)) {
      refuse('transport', 'certificate and key together');
    }
  })
  .meta({ description: 'An APT repository upstream.' });

const medium = z.strictObject({
  medium: syntax.mediumName.meta({
    description:
      'The disk or disk file: a path (from the site, with "/" in it), a label of the disk\'s partitions, or UUID= and a UUID of theirs.',
  }),
  images: z
    .array(syntax.profileName)
    .min(1, 'one profile or more')
    .optional()
    .meta({ description: 'The profiles whose newest images it gets. Unless given: all' }),
});

const refresh = z
  .strictObject({
    media: z
      .array(z.union([syntax.mediumName, medium]))
      .optional()
      .meta({ description: 'Media that are brought up to date when they are attached.' }),
    report: z
      .array(syntax.commandWord)
      .min(1, 'a program, and its arguments')
      .refine(([program]) => program !== '', 'a program, and its arguments')
      .optional()
      .meta({
        description:
          'A program and its arguments, no shell: it is given the report on its standard input, RELIVE_SUBJECT and more in its environment.',
      }),
  })
  .meta({ description: 'What relive refresh does besides mirrors and images.' });

const menu = z
  .strictObject({
    timeout: z
      .int()
      .min(0, 'a number of seconds from 0 to 3600')
      .max(3600, 'a number of seconds from 0 to 3600')
      .optional()
      .meta({
        description: 'Seconds that it waits before an image starts by itself; 0: none. Unless given: 3',
      }),
    keyboard: z
      .strictObject({
        layout: syntax.keyboardWord.meta({ description: 'XKB layout: de' }),
        variant: syntax.keyboardWord.optional().meta({ description: 'XKB variant: nodeadkeys' }),
      })
      .optional()
      .meta({
        description:
          'The keyboard (keyboard(5)), for machines that start by BIOS: with UEFI the firmware reads it. Unless given: that of the firmware, mostly us',
      }),
  })
  .meta({ description: "GRUB's menu on media and ISOs." });

export const siteSchema = z
  .strictObject({
    version: z.literal(1).meta({ description: 'The version of this format: 1.' }),
    store: syntax.hostPath
      .optional()
      .meta({ description: 'Where images and layers are kept. Unless given: store' }),
    mirror: syntax.hostPath
      .optional()
      .meta({ description: 'Where copies of repositories are kept. Unless given: mirror' }),
    cache: syntax.hostPath
      .optional()
      .meta({ description: 'Where what can be made again is kept. Unless given: .relive/cache' }),
    keys: syntax.hostPath
      .optional()
      .meta({ description: 'Where the keys are which images are signed with. Unless given: keys' }),
    repositories: z
      .record(syntax.repositoryName, repository)
      .meta({ description: 'The repositories that profiles may name.' }),
    refresh: refresh.optional(),
    menu: menu.optional(),
  })
  .meta({ title: 'relive.yaml', description: 'A site of relive.' });

/** profiles/NAME.yaml */

const packages = z
  .array(syntax.packageName)
  .meta({ description: 'Packages to install, besides those which the host brings.' });

const overlayList = z.array(syntax.overlayName);
const overlay = z
  .union([syntax.overlayName, overlayList])
  .meta({ description: 'Directories below overlays/ whose files are copied into the system, in order.' });

const user = z.strictObject({
  name: syntax.userName.meta({ description: 'The login name; root is changed, any other user made.' }),
  uid: syntax.uid.optional().meta({ description: 'The number of the user; the next free one unless given.' }),
  password: syntax.passwordHash.optional().meta({
    description: 'The hash of the password, as mkpasswd prints it; without one nobody logs in by password.',
  }),
  sshKeys: z
    .array(syntax.sshKey)
    .optional()
    .meta({ description: 'Public keys, as in ~/.ssh/authorized_keys.' }),
  groups: z
    .array(syntax.groupName)
    .optional()
    .meta({ description: 'Groups besides the one that bears the name of the user.' }),
  shell: syntax.shellPath.optional().meta({ description: 'The login shell. Unless given: /bin/bash' }),
  comment: syntax.userComment.optional().meta({ description: 'The full name or what the user is for.' }),
});

const users = z
  .array(user)
  .superRefine((list, context) => {
    const seen = { name: new Set<string>(), uid: new Set<number>() };
    for (const [index, { name, uid }] of list.entries()) {
      const again = (key: 'name' | 'uid') =>
        context.addIssue({ code: 'custom', path: [index, key], message: 'each once' });
      if (seen.name.has(name)) again('name');
      if (uid !== undefined && seen.uid.has(uid)) again('uid');
      if (name === 'root' && uid !== undefined) {
        context.addIssue({ code: 'custom', path: [index, 'uid'], message: 'none for root, who is 0' });
      }
      seen.name.add(name);
      if (uid !== undefined) seen.uid.add(uid);
    }
  })
  .meta({ description: 'The users of the system.' });

const units = z.array(syntax.unitName);
const service = {
  enable: units.meta({ description: 'Units to start at boot.' }),
  disable: units.meta({ description: 'Units not to start at boot.' }),
  mask: units.meta({ description: 'Units that nothing may start.' }),
};
export const serviceStates = ['enable', 'disable', 'mask'] as const;

/** A unit stands in one of the three lists. */
function checkServices(
  lists: Readonly<Partial<Record<(typeof serviceStates)[number], readonly string[] | undefined>>>,
  context: z.RefinementCtx,
): void {
  const seen = new Map<string, string>();
  for (const state of serviceStates) {
    for (const [index, unit] of (lists[state] ?? []).entries()) {
      const name = syntax.wholeUnitName(unit);
      const before = seen.get(name);
      if (before !== undefined && before !== state) {
        const message = `a unit in one of enable, disable, mask; this one is in ${before} too`;
        context.addIssue({ code: 'custom', path: [state, index], message });
      }
      seen.set(name, state);
    }
  }
}

const script = z.strictObject({
  name: syntax.scriptName.meta({ description: 'An executable file below scripts/ in the site.' }),
  after: z.enum(scriptPoints).meta({
    description: 'The stage after which it runs; live is the last one, just before packing.',
  }),
  where: z.enum(scriptPlaces).optional().meta({
    description:
      "In the system that is built, or on the host with the system's directory in RELIVE_ROOT. Unless given: system",
  }),
  timeout: z
    .int()
    .min(1, 'a number of seconds from 1 to 86400')
    .max(86_400, 'a number of seconds from 1 to 86400')
    .optional()
    .meta({ description: 'Seconds that it may take. Unless given: 600' }),
});

const scripts = z
  .array(script)
  .superRefine((list, context) => {
    const seen = new Set<string>();
    for (const [index, { name }] of list.entries()) {
      if (seen.has(name)) {
        context.addIssue({ code: 'custom', path: [index, 'name'], message: 'each script once' });
      }
      seen.add(name);
    }
  })
  .meta({ description: 'Programs of the site that change the system between stages, in order.' });

const persistent = {
  path: syntax.persistentPath.meta({ description: 'The directory or file whose content is kept.' }),
  volume: syntax.volumeName.meta({
    description:
      'Where it is kept: the label of a file system, or its UUID=...; it is mounted at /volumes/NAME.',
  }),
  how: z.enum(persistWays).meta({
    description:
      'A symbolic link to the volume, or a mount for programs that want no link. Unless given: link',
  }),
  owner: syntax.ownerName
    .optional()
    .meta({ description: 'Who owns what is made on the volume: USER or USER:GROUP.' }),
  mode: syntax.fileMode.optional().meta({ description: 'The mode of what is made on the volume: "0750"' }),
  seed: z.boolean().meta({
    description: 'Whether an empty volume gets what the image has at the path. Unless given: true',
  }),
  required: z.boolean().meta({
    description:
      'Whether the boot stops when the volume cannot be had; else the data are in RAM. Unless given: false',
  }),
  grow: z.boolean().meta({
    description:
      'Whether the file system of the volume (ext4) is made as large as its disk or partition at boot. Unless given: false',
  }),
};

/** Each path once, and none inside another one. */
function checkPersistent(list: readonly { readonly path: string }[], context: z.RefinementCtx): void {
  for (const [index, { path }] of list.entries()) {
    const other = list.find(
      (each, at) =>
        at < index && (`${path}/`.startsWith(`${each.path}/`) || each.path.startsWith(`${path}/`)),
    );
    if (other === undefined) continue;
    const message =
      other.path === path ? 'each path once' : `no path inside another one; ${other.path} is kept already`;
    context.addIssue({ code: 'custom', path: [index, 'path'], message });
  }
}

const persistMeta = { description: 'What is kept on volumes, apart from the image.' };
const persist = z
  .array(
    z.strictObject({
      ...persistent,
      how: persistent.how.optional(),
      seed: persistent.seed.optional(),
      required: persistent.required.optional(),
      grow: persistent.grow.optional(),
    }),
  )
  .superRefine(checkPersistent)
  .meta(persistMeta);
/** One path that is kept, with its defaults. */
export const persistEntry = z.strictObject({
  ...persistent,
  how: persistent.how.default('link'),
  seed: persistent.seed.default(true),
  required: persistent.required.default(false),
  grow: persistent.grow.default(false),
});
const effectivePersist = z.array(persistEntry).superRefine(checkPersistent).meta(persistMeta);

const identity = z
  .strictObject({
    volume: syntax.volumeName.meta({
      description: 'Where it is kept: the label of a file system, or UUID=...',
    }),
    keep: z
      .array(z.enum(identityParts))
      .min(1, 'one or more of them')
      .default([...identityParts])
      .meta({ description: `Unless given: ${identityParts.join(', ')}` }),
  })
  .meta({ description: 'What tells this machine from another one with the same image, kept on a volume.' });

const luks = z
  .array(
    z
      .strictObject({
        volume: syntax.volumeName.meta({
          description: 'The label of the LUKS header, or its UUID=...; as persist names the volume.',
        }),
        key: z
          .strictObject({
            volume: syntax.volumeName.meta({
              description: 'The label of the file system that has the key file, or its UUID=...',
            }),
            file: syntax.keyPath.meta({ description: 'The path of the key file there: /disk.key' }),
          })
          .optional()
          .meta({ description: 'A file on another volume, which is the key.' }),
        passphrase: z.boolean().optional().meta({
          description:
            'Whether the console asks for a passphrase, where no key file unlocks it. Unless given: false',
        }),
        timeout: z
          .int()
          .min(5, 'a number of seconds from 5 to 3600')
          .max(3600, 'a number of seconds from 5 to 3600')
          .optional()
          .meta({ description: 'Seconds that the passphrase is waited for. Unless given: 90' }),
      })
      .refine(({ volume, key }) => key?.volume !== volume, {
        path: ['key', 'volume'],
        message: 'another volume: this one is locked',
      }),
  )
  .superRefine((list, context) => {
    for (const [index, { volume }] of list.entries()) {
      if (list.findIndex((each) => each.volume === volume) === index) continue;
      context.addIssue({ code: 'custom', path: [index, 'volume'], message: 'each volume once' });
    }
  })
  .meta({ description: 'Volumes of persist that are encrypted, and what unlocks them.' });

const pull = z
  .strictObject({
    from: syntax.servedStore.meta({
      description: 'The address of the store: http://server:3143/store (relive serve)',
    }),
    channel: syntax.channelName
      .optional()
      .meta({ description: 'The channel to follow. Unless given: the newest image of the profile' }),
    volume: syntax.volumeName.optional().meta({
      description:
        'A volume of persist which keeps the images that were fetched, at /volumes/NAME/store. Unless given: the medium, else RAM',
    }),
    daily: z.boolean().optional().meta({
      description:
        'Whether the machine fetches by itself every day, at a time of its own; else when relive live pull is called. Unless given: true',
    }),
  })
  .meta({
    description: 'Where the running system fetches images from (relive live pull); needs live: true.',
  });

const count = (least: number) =>
  z.int().min(least, `a whole number from ${least}`).max(10_000, `a whole number from ${least}`);
const retention = z
  .strictObject({
    keep: count(1).optional().meta({ description: 'How many of the newest images stay. Unless given: 1' }),
    daily: count(0).optional().meta({ description: 'Of how many days the newest image stays.' }),
    weekly: count(0).optional().meta({ description: 'Of how many weeks the newest image stays.' }),
    monthly: count(0).optional().meta({ description: 'Of how many months the newest image stays.' }),
  })
  .meta({ description: 'Which images "relive image prune" leaves; all unless given.' });

const keyboard = z
  .strictObject({
    layout: syntax.keyboardWords.meta({ description: 'XKB layout: de; several: us,ru' }),
    variant: syntax.keyboardWords.optional().meta({ description: 'XKB variant: nodeadkeys' }),
    model: syntax.keyboardWord.optional().meta({ description: 'XKB model. Unless given: pc105' }),
    options: z
      .array(syntax.keyboardOption)
      .optional()
      .meta({ description: 'XKB options: compose:menu, grp:alt_shift_toggle' }),
  })
  .meta({ description: 'The keyboard (keyboard(5)), on consoles and for X; inherited as a whole.' });

const compression = z
  .strictObject({
    algorithm: z.enum(algorithms).meta({ description: 'How the layers are packed (mksquashfs -comp).' }),
    level: z
      .int()
      .optional()
      .meta({ description: 'gzip and lzo: 1 to 9, zstd: 1 to 22; the others have none.' }),
    blockSize: z
      .int()
      .refine(
        (size) => size >= 4096 && size <= 1048576 && Number.isInteger(Math.log2(size)),
        'a power of two from 4096 to 1048576 (bytes)',
      )
      .optional()
      .meta({ description: 'Bytes of one SquashFS block: a power of two from 4096 to 1048576.' }),
  })
  .superRefine((value, context) => checkLevel(value, levels, context))
  .meta({ description: 'How the layers are packed; inherited as a whole. Unless given: zstd, level 9' });

function checkLevel(
  { algorithm, level }: { readonly algorithm: string; readonly level?: number | undefined },
  ranges: typeof levels,
  context: z.RefinementCtx,
): void {
  if (level === undefined) return;
  const range = ranges[algorithm];
  const message =
    range === undefined
      ? `no level with ${algorithm}`
      : `a whole number from ${range[0]} to ${range[1]} with ${algorithm}`;
  if (range === undefined || level < range[0] || level > range[1]) {
    context.addIssue({ code: 'custom', path: ['level'], message });
  }
}

const initrd = z
  .strictObject({
    algorithm: z.enum(algorithms).meta({ description: 'How the initrd is compressed.' }),
    level: z
      .int()
      .optional()
      .meta({ description: 'gzip, lzo: 1 to 9, lzma, xz: 0 to 9, lz4: 1 to 12, zstd: 1 to 19.' }),
  })
  .superRefine((value, context) => checkLevel(value, initrdLevels, context))
  .meta({ description: 'How the initrd is compressed; inherited as a whole. Unless given: zstd, level 9' });

const health = {
  units: z
    .array(syntax.unitName)
    .meta({ description: 'Units that must be active: nginx, display-manager.service' }),
  script: syntax.programPath.meta({
    description: 'A program in the system that ends with status 0 when all is well; it is run as root.',
  }),
  url: syntax.healthUrl.meta({
    description: 'An address that must answer with a status of success (curl --fail); brings curl.',
  }),
  timeout: z
    .int()
    .min(1, 'a number of seconds from 1 to 3600')
    .max(3600, 'a number of seconds from 1 to 3600')
    .meta({ description: 'Seconds in which all of that must come true. Unless given: 120' }),
  restart: z.boolean().meta({
    description:
      'Whether a system on trial that is not healthy restarts by itself, while there is an image to go back to. Unless given: true',
  }),
};
const healthMeta = {
  description: 'When a system that came up is healthy, besides that no unit has failed.',
};

/** Something must be asked for; the two other keys say only how. */
function checkHealth(
  value: {
    readonly units?: readonly string[] | undefined;
    readonly script?: unknown;
    readonly url?: unknown;
  },
  context: z.RefinementCtx,
): void {
  if ((value.units ?? []).length > 0 || value.script !== undefined || value.url !== undefined) return;
  context.addIssue({ code: 'custom', message: 'units, script or url' });
}

const keys = {
  version: z
    .int()
    .min(1, 'a whole number from 1')
    .meta({ description: "The profile's own version; raise it when you change the profile." }),
  description: syntax.descriptionText.meta({ description: 'What this system is, in one line.' }),
  suite: z.enum(suites).meta({ description: 'The release of Debian.' }),
  architecture: z.enum(architectures).meta({ description: 'The architecture of the system.' }),
  host: z.enum(hosts).meta({ description: 'What it runs on; brings the packages needed there.' }),
  bootstrap: z
    .enum(bootstraps)
    .meta({ description: 'The program that makes the first stage. Unless given: mmdebstrap' }),
  repositories: z
    .array(syntax.repositoryName)
    .meta({ description: 'Repositories of relive.yaml that packages come from.' }),
  recommends: z
    .boolean()
    .meta({ description: 'Whether recommended packages are installed too. Unless given: false' }),
  hostname: syntax.hostName.meta({ description: "The host name. Unless given: the profile's name" }),
  locale: syntax.localeName.meta({ description: 'The locale. Unless given: C.UTF-8' }),
  timezone: syntax.timezoneName.meta({ description: 'The time zone. Unless given: Etc/UTC' }),
  parameters: z
    .array(syntax.kernelParameter)
    .meta({ description: "What is added to the kernel's command line." }),
  ram: z.enum(ramModes).meta({
    description:
      'Whether layers are copied to RAM as they are, or unpacked there, or read from the medium. Unless given: none',
  }),
  http: syntax.archiveUrl
    .refine((url) => url.startsWith('http:'), 'an http address')
    .meta({
      description:
        'Where a store is served: the image is fetched from there into RAM, with the same checks, and no medium is looked for.',
    }),
  verify: z.enum(verifications).meta({
    description:
      'What GRUB checks before it starts the kernel: signatures by the key of the site, checksums where no key is wanted, nothing. Unless given: signature',
  }),
  checksum: z
    .enum(checksums)
    .meta({ description: 'The checksums that GRUB goes by where it has no key. Unless given: sha256' }),
  secureBoot: z.union([z.boolean(), z.literal('shim'), z.literal('debian')]).meta({
    description:
      "Whether kernel and GRUB are signed with the site's own key for UEFI Secure Boot: true for firmware that knows the key, shim for firmware that knows Microsoft's, by way of Debian's shim, which knows the key. debian takes Debian's own signed GRUB behind that shim, which checks nothing but the kernel. Unless given: false",
  }),
  factory: z.boolean().meta({
    description:
      "Whether the system can build images: relive with all it drives, and the site's public part in /srv/relive. Unless given: false",
  }),
  live: z.boolean().meta({
    description:
      'Whether the running system can be brought to another image without a restart: relive live, and the public keys of the site in /etc/relive. Unless given: false',
  }),
};

/** One file profiles/NAME.yaml, as it stands. */
export const profileSchema = z
  .strictObject({
    version: keys.version,
    description: keys.description.optional(),
    extends: z.array(syntax.profileName).optional().meta({
      description:
        'Profiles this one builds on, in order; lists are joined, maps merged, the later value wins.',
    }),
    exclude: z
      .strictObject({
        packages: z.array(syntax.packageName).optional(),
        repositories: z.array(syntax.repositoryName).optional(),
        overlay: overlayList.optional(),
        scripts: z.array(syntax.scriptName).optional(),
        users: z.array(syntax.userName).optional(),
        persist: z.array(syntax.persistentPath).optional(),
        luks: z.array(syntax.volumeName).optional(),
        services: z
          .strictObject({
            enable: units.optional(),
            disable: units.optional(),
            mask: units.optional(),
          })
          .optional(),
        boot: z
          .strictObject({
            parameters: keys.parameters.optional(),
            health: z.strictObject({ units: health.units.optional() }).optional(),
          })
          .optional(),
      })
      .optional()
      .meta({ description: 'What is taken out of the lists of the profiles above.' }),
    suite: keys.suite.optional(),
    architecture: keys.architecture.optional(),
    host: keys.host.optional(),
    bootstrap: keys.bootstrap.optional(),
    repositories: keys.repositories.optional(),
    packages: packages.optional(),
    recommends: keys.recommends.optional(),
    overlay: overlay.optional(),
    scripts: scripts.optional(),
    users: users.optional(),
    hostname: keys.hostname.optional(),
    locale: keys.locale.optional(),
    timezone: keys.timezone.optional(),
    keyboard: keyboard.optional(),
    services: z
      .strictObject({
        enable: service.enable.optional(),
        disable: service.disable.optional(),
        mask: service.mask.optional(),
      })
      .superRefine(checkServices)
      .optional()
      .meta({ description: 'Units of systemd.' }),
    persist: persist.optional(),
    luks: luks.optional(),
    identity: identity.optional(),
    image: z
      .strictObject({ compression: compression.optional(), initrd: initrd.optional() })
      .optional()
      .meta({ description: 'How the image is made.' }),
    boot: z
      .strictObject({
        parameters: keys.parameters.optional(),
        ram: keys.ram.optional(),
        http: keys.http.optional(),
        secureBoot: keys.secureBoot.optional(),
        verify: keys.verify.optional(),
        checksum: keys.checksum.optional(),
        health: z
          .strictObject({
            units: health.units.optional(),
            script: health.script.optional(),
            url: health.url.optional(),
            timeout: health.timeout.optional(),
            restart: health.restart.optional(),
          })
          .optional()
          .meta(healthMeta),
      })
      .optional()
      .meta({ description: 'How the image boots.' }),
    factory: keys.factory.optional(),
    live: keys.live.optional(),
    pull: pull.optional(),
    retention: retention.optional(),
  })
  .meta({ title: 'profiles/NAME.yaml', description: 'A profile of relive: what a system is.' });

/** relive's package can be installed on few systems. */
function checkFactory(
  { factory, suite, architecture }: { factory: boolean; suite: string; architecture: string },
  context: z.RefinementCtx,
): void {
  const refuse = (message: string): void => context.addIssue({ code: 'custom', path: ['factory'], message });
  if (factory && suite === 'bookworm') {
    refuse('false with bookworm, whose Node.js is older than relive needs');
  }
  if (factory && architecture !== 'amd64') refuse(`false with ${architecture}: images are built on amd64`);
}

/** relive runs on Node.js, and works on what an image has started. */
function checkLive(
  {
    live,
    suite,
    host,
    pull: fetched,
    persist: kept,
  }: {
    live: boolean;
    suite: string;
    host: string;
    pull?: z.output<typeof pull> | undefined;
    persist: readonly { readonly volume: string }[];
  },
  context: z.RefinementCtx,
): void {
  const refuse = (message: string): void => context.addIssue({ code: 'custom', path: ['live'], message });
  if (live && suite === 'bookworm') refuse('false with bookworm, whose Node.js is older than relive needs');
  if (live && host === 'container') refuse('false with "host: container", whose system no image starts');
  if (!live && fetched !== undefined) {
    const message = 'only with "live: true", which brings the program that fetches';
    context.addIssue({ code: 'custom', path: ['pull'], message });
  }
  if (fetched?.volume !== undefined && !kept.some(({ volume }) => volume === fetched.volume)) {
    const message = `a volume of persist, as it is named there; nothing is kept on ${fetched.volume}`;
    context.addIssue({ code: 'custom', path: ['pull', 'volume'], message });
  }
}

/** Each volume that is unlocked is for something, can be unlocked, and its key can be had before. */
function checkLuks(
  {
    luks: locked,
    persist: kept,
    identity: own,
  }: {
    luks: z.output<typeof luks>;
    persist: readonly { readonly volume: string }[];
    identity?: { readonly volume: string } | undefined;
  },
  context: z.RefinementCtx,
): void {
  for (const [index, { volume, key, passphrase }] of locked.entries()) {
    const refuse = (part: readonly string[], message: string): void =>
      context.addIssue({ code: 'custom', path: ['luks', index, ...part], message });
    if (key === undefined && passphrase !== true) refuse([], 'a key file, "passphrase: true", or both');
    if (locked.some((other) => other.volume === key?.volume)) {
      refuse(['key', 'volume'], 'a volume that is not locked itself');
    }
    if (!kept.some((each) => each.volume === volume)) {
      refuse(['volume'], `a volume of persist, as it is named there; nothing is kept on ${volume}`);
    }
    if (own?.volume === volume) {
      context.addIssue({
        code: 'custom',
        path: ['identity', 'volume'],
        message: 'a volume that is not locked: it is read before anything could be unlocked',
      });
    }
  }
}

/** What starts such a kernel must ask the firmware whether it may: GRUB 2.06 asks shim alone. */
function checkSecureBoot(
  {
    boot,
    suite,
    architecture,
  }: {
    boot: { secureBoot: boolean | 'shim' | 'debian'; verify: string };
    suite: string;
    architecture: string;
  },
  context: z.RefinementCtx,
): void {
  if (!boot.secureBoot) return;
  const refuse = (message: string): void =>
    context.addIssue({ code: 'custom', path: ['boot', 'secureBoot'], message });
  if (suite === 'bookworm' && boot.secureBoot === true)
    refuse('shim or false with bookworm, whose GRUB starts kernels only behind shim');
  if (architecture === 'i386' || architecture === 'armhf')
    refuse(`false with ${architecture}, for which Debian has no GRUB for Secure Boot`);
  if (boot.secureBoot === 'debian') {
    if (boot.verify !== 'none')
      refuse('"verify: none" beside "debian": Debian\'s GRUB checks nothing but the kernel');
    return;
  }
  if (boot.verify !== 'signature')
    refuse('false with this "verify": what firmware lets start must check the rest');
}

/** A profile with all it inherits: the keys a build cannot do without must be there, the others get their defaults. */
export const effectiveSchema = z
  .strictObject({
    version: keys.version,
    description: keys.description.optional(),
    suite: keys.suite,
    architecture: keys.architecture,
    host: keys.host,
    bootstrap: keys.bootstrap.default('mmdebstrap'),
    repositories: keys.repositories.min(1, 'one repository or more'),
    packages: packages.default([]),
    recommends: keys.recommends.default(false),
    overlay: overlayList.default([]),
    scripts: scripts.default([]),
    users: users.default([]),
    hostname: keys.hostname.optional(),
    locale: keys.locale.default('C.UTF-8'),
    timezone: keys.timezone.default('Etc/UTC'),
    keyboard: keyboard.optional(),
    services: z
      .strictObject({
        enable: service.enable.default([]),
        disable: service.disable.default([]),
        mask: service.mask.default([]),
      })
      .superRefine(checkServices)
      .prefault({}),
    persist: effectivePersist.default([]),
    luks: luks.default([]),
    identity: identity.optional(),
    image: z
      .strictObject({
        compression: compression.default({ algorithm: 'zstd', level: 9 }),
        initrd: initrd.default({ algorithm: 'zstd', level: 9 }),
      })
      .prefault({}),
    boot: z
      .strictObject({
        parameters: keys.parameters.default([]),
        ram: keys.ram.default('none'),
        http: keys.http.optional(),
        secureBoot: keys.secureBoot.default(false),
        verify: keys.verify.default('signature'),
        checksum: keys.checksum.default('sha256'),
        health: z
          .strictObject({
            units: health.units.default([]),
            script: health.script.optional(),
            url: health.url.optional(),
            timeout: health.timeout.default(120),
            restart: health.restart.default(true),
          })
          .superRefine(checkHealth)
          .optional(),
      })
      .prefault({}),
    factory: keys.factory.default(false),
    live: keys.live.default(false),
    pull: pull.optional(),
    retention: retention.optional(),
  })
  .superRefine(checkFactory)
  .superRefine(checkLive)
  .superRefine(checkLuks)
  .superRefine(checkSecureBoot);

/** What relive.yaml holds. */
export type SiteDocument = z.output<typeof siteSchema>;
/** What an effective profile holds; `hostname` is absent where the profile's name serves. */
export type ProfileDocument = z.output<typeof effectiveSchema>;
