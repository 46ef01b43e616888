import { availableParallelism, freemem } from 'node:os';

/** What a build needs at most while its stages run: apt and dpkg in a system of usual size, and mksquashfs's blocks. */
const bytesPerJob = 1.5e9;

/** How many profiles are built at a time: one for each core, as far as there is memory. */
export function defaultJobs(cores = availableParallelism(), freeBytes = freemem()): number {
  return Math.max(1, Math.min(cores, Math.floor(freeBytes / bytesPerJob)));
}
