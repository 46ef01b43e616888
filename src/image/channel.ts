import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { isReliveError, ReliveError, systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { withScratchDirectory } from '../host/anonymous.ts';
import { directoryNames, makeDirectories, sha256, syncDirectory, syncFile } from '../host/files.ts';
import { signClear } from '../host/gpg.ts';
import { verifyClearsigned, verifyDetached } from '../host/gpgv.ts';
import type { Site } from '../site/site.ts';
import { keysHome, signingKey, trustedKeys } from './keys.ts';
import { imageName, parseImageName, profilePattern } from './name.ts';
import { findImage, lockStore } from './store.ts';

/** What a channel's name looks like; it is part of a file's name. */
export const channelPattern = /^[a-z0-9][a-z0-9-]{0,31}$/;
/** A channel's file is not larger than this. */
export const largestChannel = 64 * 1024;

const channelSchema = z.strictObject({
  schema: z.literal(1),
  /** What was signed, so that nothing else that the key signs can be taken for it. */
  kind: z.literal('relive channel'),
  channel: z.string().regex(channelPattern),
  profile: z.string().regex(profilePattern),
  /** The image that machines which follow the channel are to run. */
  image: z.string().refine((name) => parseImageName(name) !== undefined),
  /** SHA-256 of its manifest. */
  manifest: z.string().regex(/^[0-9a-f]{64}$/),
  /** Rises with each change: a machine that has seen one takes none that is lower. */
  serial: z.int().positive(),
  issued: z.iso.datetime(),
  /** From then on it is believed no more: whoever keeps newer ones from a machine is noticed. */
  expires: z.iso.datetime(),
});

/** What a channel says: which image of a profile machines are to run. */
export type Channel = z.infer<typeof channelSchema>;

/** The path of a channel's file below a store, with slashes, as in its address. */
export function channelPath(profile: string, channel: string): string {
  return `channels/${profile}/${channel}.asc`;
}

/** The text of a clear-signed message, not verified. */
function signedText(message: string): string {
  return (
    /^-----BEGIN PGP SIGNED MESSAGE-----\n(?:[^\n]+\n)*\n([^]*?)\n-----BEGIN PGP SIGNATURE-----/m.exec(
      message,
    )?.[1] ?? ''
  );
}

function parseChannel(text: string, file: string): Channel {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ReliveError('corrupt', `${file} is not JSON`, { cause: error });
  }
  const parsed = channelSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new ReliveError('corrupt', `${file} is not a channel of this relive`);
}

/**
 * Reads a channel's file, signature first. Whether it is expired or older than one that was seen is for `requireCurrent` to say.
 * @param keyring the path of a keyring, or armoured keys
 * @throws ReliveError `not-authentic`, `corrupt`
 */
export async function readChannel(
  file: string,
  keyring: string,
  wanted: Pick<Channel, 'profile' | 'channel'>,
  context: Context,
): Promise<Channel> {
  const { body } = await verifyClearsigned(file, keyring, context);
  const channel = parseChannel(body.toString(), file);
  if (
    channel.channel !== wanted.channel ||
    channel.profile !== wanted.profile ||
    parseImageName(channel.image)?.profile !== wanted.profile
  ) {
    throw new ReliveError(
      'not-authentic',
      `${file} is the channel ${channel.channel} of ${channel.profile}, not ${wanted.channel} of ${wanted.profile}`,
    );
  }
  return channel;
}

/**
 * Refuses a channel that is no longer to be believed.
 * @param seen the highest serial that this machine has seen of it, 0 for none
 * @throws ReliveError `not-authentic`
 */
export function requireCurrent({ channel, serial, expires }: Channel, seen: number, now: Date): void {
  if (serial < seen) {
    throw new ReliveError(
      'not-authentic',
      `the channel ${channel} has the serial ${serial}, but this machine has seen ${seen}: it is an older one`,
      {
        hint: 'somebody replays it, or the store was restored from a backup: relive channel set on the site makes a new one',
      },
    );
  }
  if (Date.parse(expires) <= now.getTime()) {
    throw new ReliveError('not-authentic', `the channel ${channel} has expired on ${expires}`, {
      hint: 'relive channel set on the site makes it anew; or the clock of this machine is wrong',
    });
  }
}

export interface ChannelOptions {
  /** For how many days it is believed. */
  readonly days: number;
}

/**
 * Makes a channel of the site's store name an image, which may be an older one than before: what counts for machines is the
 * serial of the channel.
 * @param wanted an image, or a profile for its newest one
 * @throws ReliveError `not-found`, `not-authentic` for an image that the site's keys did not sign
 */
export async function setChannel(
  site: Pick<Site, 'store' | 'keys'>,
  channel: string,
  wanted: string,
  { days }: ChannelOptions,
  context: Context,
): Promise<Channel> {
  const key = await signingKey(site, context);
  const keyring = await trustedKeys(site);
  const lock = await lockStore(site.store, context);
  try {
    const image = await findImage(site.store, wanted);
    const manifest = join(image.directory, 'manifest.json');
    await verifyDetached(manifest, `${manifest}.sig`, keyring, context);
    const now = new Date();
    const file = join(site.store, channelPath(image.profile, channel));
    const before = await readChannel(file, keyring, { profile: image.profile, channel }, context).catch(
      (error: unknown) => {
        if (systemCode(error) === 'ENOENT' || isReliveError(error, 'not-authentic', 'corrupt'))
          return undefined;
        throw error;
      },
    );
    const made: Channel = {
      schema: 1,
      kind: 'relive channel',
      channel,
      profile: image.profile,
      image: imageName(image),
      manifest: sha256(await readFile(manifest)),
      // The time, so that it also rises where the file was lost.
      serial: Math.max((before?.serial ?? 0) + 1, Math.floor(now.getTime() / 1000)),
      issued: now.toISOString(),
      expires: new Date(now.getTime() + days * 86_400_000).toISOString(),
    };
    await makeDirectories(join(file, '..'));
    await withScratchDirectory(join(file, '..'), async (scratch) => {
      const [text, signed] = [join(scratch, 'channel'), join(scratch, 'channel.asc')];
      await writeFile(text, `${JSON.stringify(made, undefined, 2)}\n`);
      await signClear(keysHome(site), key.fingerprint, text, signed, context);
      await syncFile(signed);
      await rename(signed, file);
    });
    await syncDirectory(join(file, '..'));
    return made;
  } finally {
    await lock.release();
  }
}

/**
 * Takes a channel away. Machines that follow it stay with what they have.
 * @throws ReliveError `not-found`
 */
export async function removeChannel(store: string, profile: string, channel: string): Promise<void> {
  try {
    await rm(join(store, channelPath(profile, channel)));
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    throw new ReliveError('not-found', `${profile} has no channel ${channel}`, {
      hint: 'relive channel list',
    });
  }
}

/** What the channels of a store say, not verified: the site's own. Damaged ones are left out. */
export async function listChannels(store: string): Promise<Channel[]> {
  const channels: Channel[] = [];
  for (const profile of await directoryNames(join(store, 'channels'))) {
    if (!profilePattern.test(profile)) continue;
    for (const name of await directoryNames(join(store, 'channels', profile))) {
      if (!channelPattern.test(name.replace(/\.asc$/, '')) || !name.endsWith('.asc')) continue;
      const file = join(store, 'channels', profile, name);
      try {
        channels.push(parseChannel(signedText(await readFile(file, 'utf8')), file));
      } catch (error) {
        if (!isReliveError(error, 'corrupt')) throw error;
      }
    }
  }
  return channels;
}
