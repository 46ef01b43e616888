import { parse } from 'yaml';
import { z } from 'zod';
import { ReliveError } from '../core/error.ts';
import { channelPattern } from '../image/channel.ts';
import { volumeName } from '../site/syntax.ts';

const configurationSchema = z.strictObject({
  /** The address of a served store: http://HOST:3143/store. */
  from: z.url({ protocol: /^https?$/ }).optional(),
  /** The channel that this machine follows. */
  channel: z.string().regex(channelPattern).optional(),
  /** The volume that keeps what was fetched, at /volumes/NAME/store. */
  volume: volumeName.optional(),
});

/** What /etc/relive/live.yaml says: where images come from, and which channel is followed. */
export type LiveConfiguration = z.infer<typeof configurationSchema>;

/**
 * Reads the text of the configuration of a live machine.
 * @throws ReliveError `configuration`
 */
export function parseConfiguration(text: string, file: string): LiveConfiguration {
  let value: unknown;
  try {
    value = parse(text) ?? {};
  } catch (error) {
    throw new ReliveError('configuration', `${file} is not YAML`, { cause: error });
  }
  const parsed = configurationSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(({ path, message }) => `  ${path.join('.')}: ${message}`);
  throw new ReliveError('configuration', `${file}:\n${problems.join('\n')}`, {
    hint: 'it has three keys: "from", the address of a served store, "channel", and "volume", which keeps the images',
  });
}
