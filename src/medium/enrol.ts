import { readFile, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { isReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { withScratchDirectory } from '../host/anonymous.ts';
import { makeDirectories, writeFileAtomic } from '../host/files.ts';
import { run } from '../host/process.ts';
import {
  type SecureBootName,
  secureBootCertificates,
  secureBootDirectory,
  secureBootNames,
} from '../image/secure-boot-keys.ts';
import { signatureList } from '../image/signature-list.ts';
import type { Site } from '../site/site.ts';
import { firmwareVariables } from '../vm/qemu.ts';
import { enrolledVariables, shimVariables } from '../vm/variable-store.ts';

/** Which key may change which list (UEFI specification, 32.3): PK itself and KEK, KEK the db. */
const changedBy: Readonly<Record<SecureBootName, SecureBootName>> = { PK: 'PK', KEK: 'PK', db: 'KEK' };

/** Variable stores for virtual machines: by their names the firmware that they are for, and how they are made. */
const variableStores = [
  ['OVMF_VARS_4M.fd', 'secure-boot', enrolledVariables],
  ['OVMF_VARS_4M.shim.fd', 'shim', shimVariables],
] as const;

export interface Enrolment {
  readonly directory: string;
  /** Names in it. */
  readonly files: readonly string[];
}

/**
 * Writes what firmware needs to know the keys of a site: each certificate as NAME.cer (DER) and NAME.esl
 * (EFI_SIGNATURE_LIST), each list with a signature by the key that may change it as NAME.auth
 * (EFI_VARIABLE_AUTHENTICATION_2), and where OVMF is installed two variable stores of it with Secure Boot on: one with the
 * keys enrolled, one with Microsoft's in which shim knows db. Nothing of it is secret.
 * @param directory is made unless it is there
 * @throws ReliveError `not-found` for a site without these keys; `usage` for a directory that cannot be made; `tool-missing`, `tool-failed`, `corrupt`
 */
export async function writeEnrolment(
  site: Pick<Site, 'keys'>,
  directory: string,
  context: Context,
): Promise<Enrolment> {
  const known = await secureBootCertificates(site);
  const target = resolve(directory);
  await makeDirectories(target);
  const keyOf = (name: SecureBootName, end: string): string =>
    join(secureBootDirectory(site), `${name}.${end}`);
  // The later one counts where firmware has two.
  const time = new Date().toISOString().slice(0, 19).replace('T', ' ');
  const files: string[] = [];
  const put = async (name: string, content: Uint8Array): Promise<void> => {
    await writeFileAtomic(join(target, name), content);
    files.push(name);
  };
  await withScratchDirectory(target, async (scratch) => {
    for (const name of secureBootNames) {
      const certificate = known.certificates[name].raw;
      const list = signatureList(known.owner, certificate);
      const [unsigned, signed] = [join(scratch, `${name}.esl`), join(scratch, `${name}.auth`)];
      await writeFile(unsigned, list);
      const by = changedBy[name];
      await run(
        'sign-efi-sig-list',
        [
          ...['-t', time, '-g', known.owner, '-k', keyOf(by, 'key'), '-c', keyOf(by, 'crt')],
          ...[name, unsigned, signed],
        ],
        { signal: context.signal },
      );
      await put(`${name}.cer`, certificate);
      await put(`${name}.esl`, list);
      await put(`${name}.auth`, await readFile(signed));
    }
  });
  for (const [name, firmware, variables] of variableStores) {
    try {
      const template = await readFile(await firmwareVariables('amd64', firmware));
      await put(name, variables(template, known));
    } catch (error) {
      if (!isReliveError(error, 'tool-missing')) throw error;
      // One of an earlier run could have other keys.
      await rm(join(target, name), { force: true });
      context.emit({
        event: 'warning',
        message: `${name} is not among them: ${error.message}`,
        hint: 'apt-get install ovmf',
      });
    }
  }
  return { directory: target, files };
}
