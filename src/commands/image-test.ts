import { join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import { findImage } from '../image/store.ts';
import { type TestResult, testImage } from '../medium/test.ts';
import { formatSeconds } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import { type Firmware, firmwares } from '../vm/qemu.ts';
import { type Call, choiceOption, numberOption, optionValue, requiredArgument } from './command.ts';

/** The words of --firmware. */
function firmwareOption(call: Call): readonly Firmware[] | undefined {
  const words = optionValue(call, 'firmware')?.split(',');
  return words?.map((word) => {
    const known = firmwares.find((one) => one === word);
    if (known !== undefined) return known;
    throw new ReliveError('usage', `--firmware ${JSON.stringify(word)} is none of: ${firmwares.join(', ')}`);
  });
}

/** What a test found, a line for each boot; for one that failed the end of its console and where all of it is. */
export function testText({ image, passed, fault, runs }: TestResult): string {
  const lines = runs.map(({ firmware, passed: good, accelerator, seconds, reason, log }) =>
    good
      ? `  ${firmware}: healthy after ${formatSeconds(seconds)} (${accelerator})`
      : `  ${firmware}: failed after ${formatSeconds(seconds)} (${accelerator}): ${reason}\n  the whole console: ${log}`,
  );
  if (fault !== undefined) lines.push(`  ${fault}`);
  return [`${image}: ${passed ? 'passed' : 'failed'}`, ...lines].join('\n');
}

export async function run(call: Call): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  const image = await findImage(site.store, requiredArgument(call, 0));
  const result = await testImage(
    site,
    image,
    {
      firmwares: firmwareOption(call),
      accelerator: choiceOption(call, 'accel', ['auto', 'kvm', 'tcg']) ?? 'auto',
      timeoutSeconds: numberOption(call, 'timeout', 86_400),
      memoryMib: numberOption(call, 'memory', 1_048_576),
      consoles: join(site.cache, 'consoles', image.name),
    },
    call.context,
  );
  return { ok: result.passed, data: { ...result }, text: testText(result) };
}
