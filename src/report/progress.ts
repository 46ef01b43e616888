import type { ProgressEvent } from '../core/event.ts';
import { cutToWidth, formatBytes, formatSeconds, printableLine } from './format.ts';
import type { Style } from './style.ts';

const barWidth = 24;
/** The rate is that of the last this many milliseconds. */
const rateWindow = 10_000;
const sampleSpacing = 250;

/** A stage which is at work: what it last said, and how fast it has been lately. */
export class Running {
  private readonly samples: { readonly at: number; readonly done: number }[] = [];
  private latest: ProgressEvent | undefined;
  readonly started: number;
  /** What a foreign program that works for it said last. */
  note: string | undefined;

  /** @param started on the clock of `performance.now()`, as all times here */
  constructor(started: number) {
    this.started = started;
  }

  get progress(): ProgressEvent | undefined {
    return this.latest;
  }

  update(event: ProgressEvent, now: number): void {
    const { samples } = this;
    const last = samples.at(-1);
    if (last !== undefined && (event.done < last.done || event.unit !== this.latest?.unit))
      samples.length = 0;
    const before = samples.at(-2);
    if (last !== undefined && before !== undefined && last.at - before.at < sampleSpacing) samples.pop();
    samples.push({ at: now, done: event.done });
    this.latest = event;
    this.forget(now);
  }

  /**
   * How much a second gets done, over the last seconds: what came at once in the beginning (the part that an
   * earlier run had finished) does not count, a standstill does. Undefined while too little is known.
   */
  rate(now: number): number | undefined {
    this.forget(now);
    const first = this.samples[0];
    const last = this.samples.at(-1);
    if (first === undefined || last === undefined || now - first.at < 1000) return undefined;
    return ((last.done - first.done) * 1000) / (now - first.at);
  }

  /** Drops what is older than the window, but for one sample to count from. */
  private forget(now: number): void {
    const { samples } = this;
    while ((samples[1]?.at ?? now) < now - rateWindow) samples.shift();
  }
}

function amountOf({ done, total, unit }: ProgressEvent): string | undefined {
  if (unit === 'percent') return undefined;
  const amount = (value: number): string => (unit === 'bytes' ? formatBytes(value) : String(value));
  const of = total === undefined ? amount(done) : `${amount(done)} of ${amount(total)}`;
  return unit === 'bytes' ? of : `${of} ${unit}`;
}

/** The share that is done, from 0 to 1, where that can be told. */
function shareOf({ done, total, unit }: ProgressEvent): number | undefined {
  const whole = total ?? (unit === 'percent' ? 100 : 0);
  return whole > 0 ? Math.min(1, Math.max(0, done / whole)) : undefined;
}

/** Time taken, bar and percentage, amount, rate and time left, as far as they are known. */
function partsOf(running: Running, now: number, bar: boolean): string[] {
  const parts = [formatSeconds((now - running.started) / 1000)];
  const { progress } = running;
  if (progress === undefined) return parts;
  const share = shareOf(progress);
  if (share !== undefined) {
    const filled = Math.round(share * barWidth);
    const drawn = bar ? `[${'#'.repeat(filled)}${'.'.repeat(barWidth - filled)}] ` : '';
    parts.push(`${drawn}${Math.floor(share * 100)} %`);
  }
  const amount = amountOf(progress);
  if (amount !== undefined) parts.push(amount);
  const rate = running.rate(now);
  if (rate !== undefined && (share === undefined || share < 1)) {
    if (progress.unit === 'bytes') parts.push(`${formatBytes(rate)}/s`);
    const total = progress.total ?? (progress.unit === 'percent' ? 100 : undefined);
    if (total !== undefined && rate > 0) parts.push(`${formatSeconds((total - progress.done) / rate)} left`);
  }
  return parts;
}

/** One line for a stage at work, with a bar, narrower than `columns` so that it never wraps. */
export function progressLine(
  stage: string,
  running: Running,
  now: number,
  columns: number,
  style: Style,
): string {
  const item = running.progress?.item ?? running.note;
  const parts = [`${printableLine(stage)} ${partsOf(running, now, true).join('  ')}`];
  if (item !== undefined) parts.push(printableLine(item));
  return style.dim(cutToWidth(`  ${parts.join('  ')}`, columns - 1));
}

/** The same for a log: no bar, no width. */
export function plainProgressLine(stage: string, running: Running, now: number): string {
  const item = running.progress?.item ?? running.note;
  const known = partsOf(running, now, false);
  return `  ${printableLine(stage)}: ${[...known, ...(item === undefined ? [] : [printableLine(item)])].join(', ')}`;
}
