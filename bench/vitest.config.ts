import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['bench/**/*.bench.ts'],
    // What runs at the same time as something that is timed spoils its figures.
    fileParallelism: false,
    reporters: ['verbose'],
  },
});
