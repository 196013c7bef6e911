import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    projects: [
      { test: { name: 'unit', include: ['packages/*/test/**/*.test.ts', 'test/{simulation,fuzz,drill,services}/**/*.test.ts', 'test/examples.test.ts'], testTimeout: 60_000, pool: 'forks', execArgv: ['--expose-gc'] } },
      { test: { name: 'system', include: ['test/{interop,drivers,cli,net,trace,probe,page}/**/*.test.ts'], testTimeout: 90_000, hookTimeout: 30_000, fileParallelism: false, pool: 'forks' } },
      // Namespaces of their own, and mostly waiting: they run beside the unit tests, two files at a time.
      { test: { name: 'beside', include: ['test/{balancer,idle}/**/*.test.ts'], testTimeout: 90_000, hookTimeout: 60_000, pool: 'forks' } },
    ],
  },
});
