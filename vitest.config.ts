import { defineConfig } from 'vitest/config';

/** With `parallel` false its files run one after the other. */
const project = (name: string, seconds: number, parallel: boolean) => ({
  extends: true as const,
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    testTimeout: seconds * 1000,
    hookTimeout: seconds * 1000,
    fileParallelism: parallel,
  },
});

/**
 * unit: no root, no network. integration: root and the real tools. boot: QEMU. The latter two share expensive
 * fixtures and machines of two cores.
 */
export default defineConfig({
  test: {
    globalSetup: 'test/compile.ts',
    projects: [project('unit', 60, true), project('integration', 900, false), project('boot', 900, false)],
  },
});
