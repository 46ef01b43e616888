import { lstat, readdir, readFile, readlink } from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import { sha256 } from '../host/files.ts';

/** One entry of an overlay. */
export interface OverlayEntry {
  /** From the overlay, without a slash in front. */
  readonly path: string;
  readonly mode: number;
  readonly kind: 'directory' | 'file' | 'link';
  /** The file's SHA-256, or the link's target. */
  readonly content: string;
  /** Where it is on the host. */
  readonly source: string;
  readonly uid: number;
  readonly gid: number;
}

/** What may be no part of an overlay, and why. */
export interface OverlayFault {
  readonly source: string;
  readonly detail: string;
  readonly hint: string;
}

const decoder = new TextDecoder('utf-8', { fatal: true });

/** A name as text, or undefined where its bytes are not UTF-8. */
function decodeName(name: Buffer): string | undefined {
  try {
    return decoder.decode(name);
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}

/** A name that is no text, for messages: what is not ASCII as `\xe4`. */
function printable(name: Buffer): string {
  return [...name]
    .map((byte) =>
      byte > 32 && byte < 127 ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`,
    )
    .join('');
}

/** Why a link may not be in an overlay, if so. */
function linkFault(
  overlay: string,
  path: string,
  target: string,
): Pick<OverlayFault, 'detail' | 'hint'> | undefined {
  if (target.startsWith(`${overlay}/`)) {
    return {
      detail: `links to ${target}, a path of this host`,
      hint: `in the system that is ${target.slice(overlay.length)}`,
    };
  }
  const lands = target.startsWith('/') ? target : normalize(join(dirname(path), target));
  if (lands !== '..' && !lands.startsWith('../')) return undefined;
  return {
    detail: `links to ${target}, which leads out of the root`,
    hint: 'take the target from the root: /etc/...',
  };
}

/**
 * Reads what is in an overlay, without following links.
 * @param overlay an absolute path
 * @returns what can enter a system, in order, and what cannot: device nodes, sockets and pipes, names that are not
 *   UTF-8, links that lead out of the root
 */
export async function readOverlay(
  overlay: string,
): Promise<{ readonly entries: readonly OverlayEntry[]; readonly faults: readonly OverlayFault[] }> {
  const entries: OverlayEntry[] = [];
  const faults: OverlayFault[] = [];
  const walk = async (below: string): Promise<void> => {
    const names = await readdir(join(overlay, below), { encoding: 'buffer' });
    for (const bytes of names.toSorted((a, b) => Buffer.compare(a, b))) {
      const name = decodeName(bytes);
      if (name === undefined) {
        faults.push({
          source: join(overlay, below, printable(bytes)),
          detail: 'its name is not UTF-8',
          hint: 'rename it: convmv(1) does so for whole trees',
        });
        continue;
      }
      const path = join(below, name);
      const source = join(overlay, path);
      const status = await lstat(source);
      const common = { path, source, mode: status.mode & 0o7777, uid: status.uid, gid: status.gid };
      if (status.isSymbolicLink()) {
        const target = await readlink(source);
        const fault = linkFault(overlay, path, target);
        if (fault === undefined) entries.push({ ...common, mode: 0o777, kind: 'link', content: target });
        else faults.push({ source, ...fault });
      } else if (status.isDirectory()) {
        entries.push({ ...common, kind: 'directory', content: '' });
        await walk(path);
      } else if (status.isFile()) {
        entries.push({ ...common, kind: 'file', content: sha256(await readFile(source)) });
      } else {
        faults.push({
          source,
          detail: 'an overlay holds files, directories and links only',
          hint: 'device nodes, sockets and pipes are made at boot by systemd-tmpfiles (tmpfiles.d(5))',
        });
      }
    }
  };
  await walk('');
  return { entries, faults };
}
