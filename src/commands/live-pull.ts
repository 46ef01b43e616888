import { join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import { parseImageName, profilePattern } from '../image/name.ts';
import { liveConfiguration } from '../live/configuration.ts';
import { pullImage, type Wanted } from '../live/pull.ts';
import { targetStore } from '../live/pull-store.ts';
import { liveKeys, livePlaces, runningImage } from '../live/running.ts';
import { formatBytes } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { channelName } from './channel-set.ts';
import { type Call, optionalArgument, optionValue } from './command.ts';

/** What the command line and the machine's configuration ask for. */
function wantedOf(named: string | undefined, channel: string | undefined, profile: string): Wanted {
  if (named !== undefined && parseImageName(named) !== undefined) return { by: 'name', name: named };
  if (named !== undefined && !profilePattern.test(named)) {
    throw new ReliveError('usage', `${JSON.stringify(named)} is the name of no image and of no profile`);
  }
  if (channel === undefined) return { by: 'profile', profile: named ?? profile };
  return { by: 'channel', profile: named ?? profile, channel: channelName(channel) };
}

/**
 * An address of a served store without a user and a password: it is shown in lists of processes and in logs.
 * @throws ReliveError `usage`
 */
export function requireAddress(from: string): void {
  if (!/^https?:\/\/[^/]+/.test(from) || !URL.canParse(from)) {
    throw new ReliveError('usage', `${JSON.stringify(from)} is no address`, {
      hint: '--from http://HOST:3143/store',
    });
  }
  const { username, password } = new URL(from);
  if (username === '' && password === '') return;
  throw new ReliveError('usage', `${from} has a user or a password in it, which others would see`, {
    hint: 'put them into /etc/apt/auth.conf or ~/.netrc: machine HOST login USER password WORD (apt_auth.conf(5))',
  });
}

export async function run(call: Call): Promise<CommandResult> {
  const { context } = call;
  const named = optionalArgument(call, 0);
  const running = await runningImage();
  const keys = await liveKeys();
  const configuration = await liveConfiguration(livePlaces.configuration);
  const from = optionValue(call, 'from') ?? configuration.from;
  if (from === undefined) {
    throw new ReliveError('usage', 'nobody says where images are served', {
      hint: 'relive live pull --from http://HOST:3143/store, or "from:" in /etc/relive/live.yaml',
    });
  }
  requireAddress(from);
  // Whoever names an image wants it; what the channel says is for those who do not.
  const channel = optionValue(call, 'channel') ?? (named === undefined ? configuration.channel : undefined);
  const wanted = wantedOf(named, channel, running.manifest.profile.name);
  const target = await targetStore(optionValue(call, 'store'), context);
  try {
    const { architecture } = running.manifest;
    const at = [join(livePlaces.medium, 'live'), join(livePlaces.home, 'ram')];
    const pulled = await pullImage({ from, wanted, keys, architecture, target, at }, context);
    const { image, present, bytes, layers } = pulled;
    const runs = image.name === running.manifest.image;
    const older = image.profile === running.manifest.profile.name && image.version < running.manifest.version;
    const what = present
      ? `${image.name} is in ${target.store} already`
      : `${image.name} is in ${target.inRam ? 'RAM' : target.store}: ${formatBytes(bytes)} fetched, ${layers.shared} of ${layers.shared + layers.fetched} layers were there`;
    return {
      ok: true,
      data: {
        image: image.name,
        store: target.store,
        inRam: target.inRam,
        ...{ present, bytes, layers, runs, older },
        ...(pulled.channel === undefined
          ? {}
          : { channel: pulled.channel.channel, serial: pulled.channel.serial }),
      },
      text: `${what}${runs ? '; this machine runs it' : older ? '; this machine runs a newer one' : ''}`,
    };
  } finally {
    await target.release();
  }
}
