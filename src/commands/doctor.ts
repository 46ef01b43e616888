import type { Check } from '../host/checks.ts';
import { checkHost } from '../host/checks.ts';
import { formatTable } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import type { Call } from './command.ts';

/** `relive doctor`: what this host has, what is missing, and the command that installs it. */
export async function run({ context, siteDirectory }: Call): Promise<CommandResult> {
  const checks = await checkHost(siteDirectory, context);
  const wrong = checks.filter(({ state, needed }) => needed && state !== 'good');
  for (const { name, state, detail, install, hint } of wrong) {
    const advice = install === undefined ? hint : `apt-get install ${install}`;
    context.emit({
      event: 'finding',
      kind: state === 'missing' ? 'missing' : 'unsuitable',
      path: name,
      detail,
      ...(advice === undefined ? {} : { hint: advice }),
    });
  }
  const install = installCommand(checks.filter(({ needed }) => needed));
  const optional = installCommand(checks.filter(({ needed }) => !needed));
  return {
    ok: wrong.length === 0,
    data: { checks, install: install ?? null, optional: optional ?? null },
    text: [formatTable(checks.map(row)), '', ...closing(wrong.length, install, optional)].join('\n'),
  };
}

/** The one command that installs what is missing of `checks`. */
function installCommand(checks: readonly Check[]): string | undefined {
  const packages = checks.flatMap(({ install }) => install ?? []);
  return packages.length === 0
    ? undefined
    : `apt-get install --no-install-recommends ${packages.toSorted().join(' ')}`;
}

function row({ name, state, needed, detail, purpose }: Check): string[] {
  const verdict = state === 'good' ? 'ok' : needed ? state : `${state} (optional)`;
  return [verdict, name, detail.replaceAll(/\s+/g, ' '), purpose];
}

function closing(wrong: number, install: string | undefined, optional: string | undefined): string[] {
  const lines = [
    wrong === 0
      ? 'This host has all that relive needs.'
      : `${wrong} of the things that relive needs are missing or do not suit.`,
  ];
  if (install !== undefined) lines.push(`Install what is missing:  ${install}`);
  if (optional !== undefined) lines.push(`If you want it:           ${optional}`);
  return lines;
}
