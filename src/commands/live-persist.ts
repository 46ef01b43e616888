import { ReliveError } from '../core/error.ts';
import { addPersistent, growVolume, type KeptPath, keptPaths, profileLine } from '../live/persist.ts';
import { runningImage } from '../live/running.ts';
import { formatBytes, formatTable, printableLine } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { persistEntry } from '../site/schema.ts';
import { type Call, optionalArgument, optionValue, requiredArgument } from './command.ts';

function needs(what: string, example: string): ReliveError {
  return new ReliveError('usage', `relive live persist: ${what}`, {
    hint: `example: relive live persist ${example}`,
  });
}

function row({ path, volume, how, encrypted, since, state, space }: KeptPath): string[] {
  const room = space === null ? '-' : `${formatBytes(space.free)} of ${formatBytes(space.size)}`;
  const kept = state === 'ok' ? 'kept' : space === null ? `not kept: ${state}` : state;
  return [
    path,
    `${volume}${encrypted ? ' (LUKS)' : ''}`,
    how,
    room,
    printableLine(since === 'added' ? `${kept}, until the next start` : kept),
  ];
}

async function list(): Promise<CommandResult> {
  const kept = await keptPaths();
  const lines = kept.map(profileLine);
  return {
    ok: true,
    data: { kept, profile: lines },
    text:
      kept.length === 0
        ? 'Nothing is kept on volumes: relive live persist add PATH VOLUME'
        : [
            formatTable([['PATH', 'VOLUME', 'HOW', 'FREE', 'STATE'], ...kept.map(row)]),
            '',
            'persist:',
            ...lines.map((line) => `  ${line}`),
          ].join('\n'),
  };
}

async function add(call: Call, path: string, volume: string): Promise<CommandResult> {
  const owner = optionValue(call, 'owner');
  const mode = optionValue(call, 'mode');
  const how = optionValue(call, 'how');
  const parsed = persistEntry.safeParse({
    ...{ path, volume, required: call.options['required'] === true, grow: call.options['grow'] === true },
    ...(how === undefined ? {} : { how }),
    ...(owner === undefined ? {} : { owner }),
    ...(mode === undefined ? {} : { mode }),
  });
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const key = String(issue?.path[0] ?? 'path');
    const given = { path, volume, how, owner, mode }[key];
    throw needs(`${key} ${JSON.stringify(given ?? '')}: expected ${issue?.message}`, 'add /srv/www DATA');
  }
  await addPersistent(parsed.data, call.context);
  const line = profileLine(parsed.data);
  return {
    ok: true,
    data: { path, volume, profile: line },
    text: [
      `${path} is on the volume ${volume} until the next start. What had files open there goes on with the old ones: start it anew.`,
      'For the next image, in the profile:',
      '',
      'persist:',
      `  ${line}`,
    ].join('\n'),
  };
}

async function grow(call: Call, volume: string): Promise<CommandResult> {
  const { before, after } = await growVolume(volume, call.context);
  return {
    ok: true,
    data: { volume, before, after },
    text:
      after > before
        ? `${volume}: ${formatBytes(before)} -> ${formatBytes(after)}`
        : `${volume} has all of its disk or partition already: ${formatBytes(after)}`,
  };
}

export async function run(call: Call): Promise<CommandResult> {
  const action = requiredArgument(call, 0);
  const what = optionalArgument(call, 1);
  const volume = optionalArgument(call, 2);
  await runningImage();
  if (action === 'add') {
    if (what === undefined || volume === undefined) throw needs('a path and a volume', 'add /srv/www DATA');
    return await add(call, what, volume);
  }
  if (action === 'grow') {
    if (what === undefined || volume !== undefined) throw needs('one volume', 'grow DATA');
    return await grow(call, what);
  }
  if (what !== undefined) throw needs('list takes nothing more', 'list');
  return await list();
}
