import { writeEnrolment } from '../medium/enrol.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import { type Call, requiredArgument } from './command.ts';

export async function run(call: Call): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  const made = await writeEnrolment(site, requiredArgument(call, 0), call.context);
  return {
    ok: true,
    data: { ...made },
    text: `${made.directory}: ${made.files.join(' ')}

A machine: copy the files to a FAT partition. In the firmware's setup clear its keys ("setup mode"), enrol db, KEK and, last,
PK, which ends the setup mode, each from its .auth file or, where the firmware wants a certificate, its .cer; switch Secure
Boot on. From Linux, in setup mode: efi-updatevar -f db.auth db, then KEK, then PK.
Behind shim ("boot: {secureBoot: shim}"), where the firmware keeps Microsoft's keys: the medium itself has db.cer, as
RELIVE.CER; MokManager, which comes up by itself, enrols it. From Linux: mokutil --import db.cer, and restart.
A virtual machine: relive vm --firmware secure-boot or shim knows the keys by itself; others take OVMF_VARS_4M.fd or, for
shim, OVMF_VARS_4M.shim.fd as their variables, with OVMF_CODE_4M.secboot.fd.`,
  };
}
