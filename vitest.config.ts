import { defineConfig } from 'vitest/config';

const project = (name: string, seconds: number) => ({
  extends: true as const,
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    testTimeout: seconds * 1000,
    hookTimeout: seconds * 1000,
  },
});

/**
 * unit: no root, no network. integration: root and the real tools. boot: QEMU.
 * The latter two share expensive fixtures and machines of two cores, so their files run one after the other.
 */
export default defineConfig({
  test: {
    globalSetup: 'test/compile.ts',
    projects: [
      project('unit', 20),
      {
        ...project('integration', 900),
        test: { ...project('integration', 900).test, fileParallelism: false },
      },
      { ...project('boot', 900), test: { ...project('boot', 900).test, fileParallelism: false } },
    ],
  },
});
