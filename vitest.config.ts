import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

/** @param workers how many files run at a time */
const project = (name: string, seconds: number, workers: number) => ({
  extends: true as const,
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    testTimeout: seconds * 1000,
    hookTimeout: seconds * 1000,
    maxWorkers: workers,
  },
});

/**
 * unit: no root, no network. integration: root and the real tools. boot: QEMU. The latter two share expensive
 * fixtures and machines of two cores; a guest that boots in emulation keeps one of them busy.
 */
export default defineConfig({
  test: {
    globalSetup: 'test/compile.ts',
    projects: [
      project('unit', 60, availableParallelism()),
      project('integration', 900, 2),
      project('boot', 900, 2),
    ],
  },
});
