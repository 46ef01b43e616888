import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeDirectories } from '../host/files.ts';

/** An APT repository as apt is told of it (sources.list(5)), of one suite. */
export interface AptSource {
  /** The name it has in relive.yaml, for messages. */
  readonly repository: string;
  /** `file:/...` on the mirror while building, upstream's address in the finished system. */
  readonly uri: string;
  readonly suite: string;
  readonly components: readonly string[];
  /** Absolute path of the keyring that must have signed it. */
  readonly keyring: string;
}

/** One-line-style sources.list text. */
export function sourcesList(sources: readonly AptSource[]): string {
  const lines = sources.map(
    ({ uri, suite, components, keyring }) =>
      `deb [signed-by=${keyring}] ${uri.replaceAll(' ', '%20')} ${suite} ${components.join(' ')}`,
  );
  return `${lines.join('\n')}\n`;
}

/**
 * Settings of every apt that relive starts, inside the system and outside (apt.conf(5)). The mirror has judged dates
 * already, by the rules of apt, when it accepted a Release; a build from it months later is no fault.
 */
export function aptSettings(architecture: string, recommends: boolean): string[] {
  return [
    `APT::Architecture "${architecture}";`,
    `APT::Architectures { "${architecture}"; };`,
    `APT::Install-Recommends "${recommends}";`,
    'APT::Install-Suggests "false";',
    'APT::Sandbox::User "root";',
    'APT::Get::Assume-Yes "true";',
    'Acquire::Languages "none";',
    'Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";',
    'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";',
    'Acquire::Check-Valid-Until "false";',
    'Acquire::Check-Date "false";',
    'Acquire::Retries "0";',
    'Dpkg::Use-Pty "false";',
  ];
}

/** Settings of an apt that installs. Not of mmdebstrap's: since 1.5 its dpkg is env(1), which takes them for its own. */
export const dpkgSettings = 'Dpkg::Options { "--force-unsafe-io"; "--force-confdef"; "--force-confold"; };';

/** Where a private apt keeps its things: nothing of the host's apt is read or written. */
export interface AptRoot {
  readonly directory: string;
  /** The configuration file, for the environment variable APT_CONFIG. */
  readonly config: string;
}

/**
 * Makes an apt root of its own in `directory`: no package is installed in it, and only `sources` are trusted, each by
 * its own keyring. The host's configuration is not read, since APT_CONFIG comes first and names other parts.
 */
export async function makeAptRoot(
  directory: string,
  sources: readonly AptSource[],
  settings: readonly string[],
): Promise<AptRoot> {
  for (const part of ['etc/preferences.d', 'lists/partial', 'cache/archives/partial']) {
    await makeDirectories(join(directory, part));
  }
  const config = join(directory, 'apt.conf');
  const places = [
    `Dir "${directory}";`,
    `Dir::State "${directory}";`,
    `Dir::State::status "${directory}/status";`,
    `Dir::State::lists "${directory}/lists";`,
    `Dir::Cache "${directory}/cache";`,
    `Dir::Etc "${directory}/etc";`,
    `Dir::Etc::parts "/dev/null";`,
    `Dir::Etc::trusted "/dev/null";`,
    `Dir::Etc::trustedparts "/dev/null";`,
    `Dir::Log "${directory}";`,
  ];
  await writeFile(join(directory, 'status'), '');
  await writeFile(join(directory, 'etc/sources.list'), sourcesList(sources));
  await writeFile(config, `${[...places, ...settings].join('\n')}\n`);
  return { directory, config };
}
