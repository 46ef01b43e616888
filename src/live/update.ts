import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import { type Context, inStage } from '../core/event.ts';
import { withScratchDirectory } from '../host/anonymous.ts';
import { takeLock } from '../host/lock.ts';
import { comparePackages, type PackageDifference } from '../image/diff.ts';
import type { Manifest } from '../image/manifest.ts';
import type { Change } from './changes.ts';
import { changeDemands, type Demand, type Disturbance, greatest, kernelDemands } from './disturbance.ts';
import { currentManifest, type Journal, type KeptJournal, nextJournal, readJournals } from './journal.ts';
import { keepBooted, makeDefault, requireDefault } from './next-start.ts';
import {
  type LivePlaces,
  liveKeys,
  livePlaces,
  type RunningImage,
  runningImage,
  storeAtHand,
} from './running.ts';
import {
  concernedServices,
  configurationPaths,
  ownershipPaths,
  planUnits,
  readOwnership,
  readProcesses,
  readUnits,
  stopUnits,
  tasksOf,
  tellSystem,
  type UnitPlan,
  unitOfGroup,
} from './services.ts';
import { findTarget, missingLayers, type Target, verifyLayers, withOpenStacks } from './target.ts';
import {
  beginTransition,
  type ConflictChoice,
  dropTransition,
  finishTransition,
  memoryOf,
  type OpenStack,
  type Programs,
  planTransition,
  type Transition,
  type Undone,
  undoTransition,
} from './transition.ts';

export interface LivePlanOptions {
  /** The image to go to; the newest one of the profile in the store unless given. */
  readonly image: string | undefined;
  /** The store; what was fetched, or the medium, unless given. */
  readonly store: string | undefined;
  readonly conflicts: ConflictChoice;
}

export interface LiveUpdateOptions extends LivePlanOptions {
  /** Whether the next starts are into the image, too. */
  readonly asDefault: boolean;
}

/** What bringing the running system to an image means. */
export interface UpdatePlan {
  readonly booted: string;
  /** The image that the system was brought to last; `booted` where none was applied. */
  readonly from: string;
  readonly to: string;
  readonly store: string;
  readonly packages: readonly PackageDifference[];
  readonly transition: Transition;
  readonly units: UnitPlan;
  /** How far the system must be disturbed for all of the image to be in force, and what asks for that. */
  readonly disturbance: Disturbance;
  readonly demands: readonly Demand[];
  /** Of RAM, in bytes. */
  readonly memory: number;
  /** Of layers that are read from the store, in bytes. */
  readonly read: number;
}

/** The unit that this process runs in. */
async function ownUnit(): Promise<string | undefined> {
  return unitOfGroup(/^0::(.*)$/m.exec(await readFile('/proc/self/cgroup', 'utf8'))?.[1] ?? '');
}

async function unitsFor(changes: readonly Change[], context: Context): Promise<Journal['units']> {
  const processes = readProcesses();
  const units = await readUnits(concernedServices(changes, processes), context);
  const configuration = configurationPaths(changes);
  const wanted = configuration.length === 0 ? new Set<string>() : ownershipPaths(configuration, units);
  const ownership = readOwnership('/var/lib/dpkg/info', wanted);
  return planUnits({ changes, units, ownership, processes, own: await ownUnit() });
}

/** systemd and what it runs. */
function systemdPrograms(context: Context): Programs {
  return {
    plan: async (changes) => await unitsFor(changes, context),
    stop: async ({ stop }) => await stopUnits(stop, context),
    tell: async (changes, units) =>
      await inStage(context, 'services', async () => await tellSystem(tasksOf(changes), units, context)),
  };
}

function unfinished(journals: readonly KeptJournal[]): KeptJournal | undefined {
  const last = journals.at(-1);
  return last?.journal.state === 'done' ? undefined : last;
}

interface Opened {
  readonly running: RunningImage;
  readonly journals: readonly KeptJournal[];
  readonly target: Target;
  readonly to: OpenStack;
  readonly booted: OpenStack;
  readonly plan: UpdatePlan;
}

async function makePlan(
  running: RunningImage,
  target: Target,
  current: Manifest,
  stacks: Readonly<Record<'booted' | 'from' | 'to', OpenStack>>,
  conflicts: ConflictChoice,
  places: LivePlaces,
  context: Context,
): Promise<UpdatePlan> {
  const system = { root: places.root, booted: stacks.booted.tree };
  const transition = await inStage(
    context,
    'compare',
    async () => await planTransition(system, stacks.from, stacks.to, conflicts, context),
  );
  const units = await unitsFor(transition.changes, context);
  const demands: Demand[] = [
    ...kernelDemands(running.manifest, target.manifest),
    ...changeDemands(transition.changes),
    ...units.leave.map(({ unit, why }): Demand => ({ disturbance: 'switch', why: `${unit}: ${why}` })),
    ...[...units.stop, ...units.restart, ...units.start].map(
      ({ unit, why }): Demand => ({ disturbance: 'services', why: `${unit}: ${why}` }),
    ),
  ];
  return {
    booted: running.manifest.image,
    from: current.image,
    to: target.manifest.image,
    store: target.store,
    packages: comparePackages(current, target.manifest),
    transition,
    units,
    disturbance: greatest(demands),
    demands,
    memory: memoryOf(transition),
    read: missingLayers(target.manifest, running).reduce((sum, { size }) => sum + size, 0),
  };
}

/** What runs, and what was applied to it. */
interface LiveState {
  readonly running: RunningImage;
  readonly journals: readonly KeptJournal[];
}

async function liveState(places: LivePlaces): Promise<LiveState> {
  const running = await runningImage(places);
  return { running, journals: await readJournals(running.upper) };
}

/** Checks the target, shows all trees, makes the plan and hands it to `use`. */
async function withPlan<T>(
  options: LivePlanOptions,
  { running, journals }: LiveState,
  places: LivePlaces,
  context: Context,
  use: (opened: Opened) => Promise<T>,
): Promise<T> {
  const current = currentManifest(running, journals);
  const store = await storeAtHand(options.store, places);
  if (store === undefined) {
    throw new ReliveError('not-found', 'no store is at hand to take an image from', {
      hint: 'mount the medium or a volume that has one, and name its directory: --store DIR',
    });
  }
  const target = await findTarget(store, options.image, current, await liveKeys(places), context);
  await inStage(context, 'verify', async () => await verifyLayers(target, running, context));
  return await withScratchDirectory(places.home, async (scratch) => {
    const wanted = [running.manifest, current, target.manifest].map((manifest) => ({ manifest, store }));
    return await withOpenStacks(wanted, running, scratch, context, async ([booted, from, to]) => {
      if (booted === undefined || from === undefined || to === undefined) throw new TypeError('no stack');
      const stacks = { booted, from, to };
      const plan = await makePlan(running, target, current, stacks, options.conflicts, places, context);
      return await use({ running, journals, target, to, booted, plan });
    });
  });
}

/**
 * What bringing the running system to an image would do. Changes nothing. Inside a private mount namespace.
 * @throws ReliveError `host-unable`, `not-found`, `not-authentic`, `corrupt`
 */
export async function planUpdate(
  options: LivePlanOptions,
  context: Context,
  places: LivePlaces = livePlaces,
): Promise<UpdatePlan> {
  const state = await liveState(places);
  return await withPlan(options, state, places, context, async ({ plan }) => await Promise.resolve(plan));
}

/** What was done. */
export interface Applied {
  readonly from: string;
  readonly to: string;
  /** Whether an apply that was cut off was brought to its end. */
  readonly resumed: boolean;
  readonly done: Pick<Journal, 'changes' | 'conflicts' | 'left' | 'units'>;
  /** The plan; none for an apply that was resumed. */
  readonly plan: UpdatePlan | undefined;
  /** Programs that did not do as they should, in words. */
  readonly failed: readonly string[];
  /** The image that the next start is into. */
  readonly next: string;
}

/** One apply, undo or switch at a time. */
export async function withLock<T>(places: LivePlaces, context: Context, work: () => Promise<T>): Promise<T> {
  const lock = await takeLock(join(places.home, 'live.lock'), 'the running system', context, { wait: false });
  try {
    return await work();
  } finally {
    await lock.release();
  }
}

/**
 * Brings the running system to an image: verified first, planned, then file by file, then the services. An apply that was
 * cut off is brought to its end. Inside a private mount namespace.
 * @throws ReliveError as `planUpdate` and, for the default, `requireDefault`; `disk-full` where the memory does not suffice; `exists` where another apply or an undo was cut
 *   off
 */
export async function applyUpdate(
  options: LiveUpdateOptions,
  context: Context,
  places: LivePlaces = livePlaces,
): Promise<Applied> {
  return await withLock(places, context, async () => {
    const { running, journals } = await liveState(places);
    const { booted } = running;
    const cut = unfinished(journals);
    const begun = cut?.journal.state === 'staging';
    if (cut !== undefined && begun) await dropTransition({ root: places.root }, cut);
    else if (cut !== undefined) requireResumable(cut, options.image);
    const done = { running, journals: begun ? journals.slice(0, -1) : journals };
    const applied =
      cut === undefined || begun
        ? await applyAnew(options, done, context, places)
        : await resume(cut, options, context, places);
    const { store, ...brought } = applied;
    if (options.asDefault) {
      await makeDefault(store, brought.to, context, places);
      return { ...brought, next: brought.to };
    }
    return { ...brought, next: await keepBooted(store, booted, context, places) };
  });
}

type Brought = Omit<Applied, 'next'> & { readonly store: string };

/** Brings an apply that was cut off to its end. */
async function resume(
  cut: KeptJournal,
  { asDefault }: LiveUpdateOptions,
  context: Context,
  places: LivePlaces,
): Promise<Brought> {
  const { from, to, store } = cut.journal;
  if (asDefault) await requireDefault(store, to, places);
  const failed = await inStage(
    context,
    'apply',
    async () => await finishTransition({ root: places.root }, cut, systemdPrograms(context), context),
  );
  return { from, to, store, resumed: true, done: cut.journal, plan: undefined, failed };
}

async function applyAnew(
  options: LiveUpdateOptions,
  state: LiveState,
  context: Context,
  places: LivePlaces,
): Promise<Brought> {
  return await withPlan(options, state, places, context, async (opened) => {
    const { running, journals, target, to, booted, plan } = opened;
    const { transition, units } = plan;
    const { store } = target;
    if (options.asDefault) await requireDefault(store, plan.to, places);
    const brought = { from: plan.from, to: plan.to, store, resumed: false, plan };
    // Nothing to take back: relive live undo is about the apply before.
    if (plan.from === plan.to && transition.changes.length === 0) {
      return { ...brought, done: { ...transition, units }, failed: [] };
    }
    const system = { root: places.root, upper: running.upper, booted: booted.tree };
    const facts = {
      from: plan.from,
      to: plan.to,
      manifest: JSON.stringify(target.manifest),
      store,
    };
    const directory = nextJournal(running.upper, journals);
    return await inStage(context, 'apply', async () => {
      const begun = await beginTransition(system, to, transition, units, facts, directory, context);
      const failed = await finishTransition(system, begun, systemdPrograms(context), context);
      return { ...brought, done: begun.journal, failed };
    });
  });
}

function requireResumable({ journal }: KeptJournal, image: string | undefined): void {
  const { state, to } = journal;
  if (state !== 'undoing' && (image === undefined || image === to)) return;
  throw new ReliveError('exists', `${state === 'undoing' ? 'the undo' : 'the apply'} of ${to} was cut off`, {
    hint:
      state === 'undoing'
        ? 'relive live undo brings it to its end'
        : `relive live apply ${to} brings it to its end; relive live undo takes it back`,
  });
}

/**
 * Takes the last apply back, done or cut off. Inside a private mount namespace.
 * @throws ReliveError `not-found` where nothing was applied since the boot
 */
export async function undoUpdate(
  conflicts: ConflictChoice,
  context: Context,
  places: LivePlaces = livePlaces,
): Promise<Undone & Pick<Journal, 'from' | 'to'>> {
  return await withLock(places, context, async () => {
    const running = await runningImage(places);
    const last = (await readJournals(running.upper)).at(-1);
    if (last === undefined) {
      throw new ReliveError('not-found', 'nothing was applied since the boot', {
        hint: `the system is ${running.manifest.image}, as it was booted`,
      });
    }
    const { from, to, state } = last.journal;
    if (state === 'staging') {
      await dropTransition({ root: places.root }, last);
      const units = { stop: [], restart: [], start: [], leave: [] };
      return { from, to, changes: [], conflicts: [], units, failed: [] };
    }
    return await withScratchDirectory(places.home, async (scratch) => {
      const wanted = [{ manifest: running.manifest, store: undefined }];
      return await withOpenStacks(wanted, running, scratch, context, async ([booted]) => {
        if (booted === undefined) throw new TypeError('no stack');
        const { tree } = booted;
        const system = { root: places.root, upper: running.upper, booted: tree };
        const undone = await inStage(
          context,
          'undo',
          async () => await undoTransition(system, last, systemdPrograms(context), conflicts, context),
        );
        // It may have been made the default.
        await keepBooted(last.journal.store, running.booted, context, places);
        return { ...undone, from, to };
      });
    });
  });
}
