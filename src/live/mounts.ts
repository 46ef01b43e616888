import { readFile } from 'node:fs/promises';

/** A mount, as /proc/self/mounts has it. */
export interface Mount {
  readonly device: string;
  readonly target: string;
  readonly type: string;
  readonly options: readonly string[];
}

/**
 * The mount at exactly this place, the topmost.
 * @param places `mounts`: the file that the kernel shows its mounts in
 */
export async function mountAt(
  target: string,
  { mounts }: { readonly mounts: string },
): Promise<Mount | undefined> {
  const line = (await readFile(mounts, 'utf8'))
    .split('\n')
    .map((each) => each.split(' '))
    .findLast((fields) => fields[1] === target);
  const [device, , type, options] = line ?? [];
  if (device === undefined || type === undefined || options === undefined) return undefined;
  return { device, target, type, options: options.split(',') };
}
