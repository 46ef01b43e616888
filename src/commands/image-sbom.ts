import { resolve } from 'node:path';
import { writeFileAtomic } from '../host/files.ts';
import { billOfMaterials } from '../image/sbom.ts';
import type { CommandResult } from '../report/reporter.ts';
import { type Call, optionValue } from './command.ts';
import { askTracker, inspectImage } from './image-vulnerabilities.ts';

export async function run(call: Call): Promise<CommandResult> {
  const { manifest, packages } = await inspectImage(call);
  const tracker = optionValue(call, 'tracker');
  const answer = tracker === undefined ? undefined : await askTracker(tracker, manifest, packages);
  const text = billOfMaterials(manifest, packages, answer?.found);
  const output = optionValue(call, 'output');
  if (output === undefined) {
    return { ok: true, data: { document: JSON.parse(text) as unknown }, text: text.trimEnd() };
  }
  await writeFileAtomic(resolve(output), text);
  return {
    ok: true,
    data: { file: resolve(output) },
    text: `the bill of materials of ${manifest.image}, ${manifest.packages.length} packages, is in ${output}`,
  };
}
