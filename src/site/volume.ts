/** How the data of a path come from their volume. */
export const persistWays = ['link', 'bind'] as const;

/** The name of a volume's directory in /volumes. */
export function volumeDirectory(volume: string): string {
  return volume.replace(/^UUID=/, '');
}
