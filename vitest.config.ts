import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    projects: [
      { test: { name: 'unit', include: ['packages/*/test/**/*.test.ts', 'test/{simulation,fuzz,drill,services}/**/*.test.ts', 'test/examples.test.ts'], testTimeout: 60_000, pool: 'forks', execArgv: ['--expose-gc'] } },
      { test: { name: 'system', include: ['test/{interop,drivers,cli,net,trace,probe,balancer}/**/*.test.ts'], testTimeout: 90_000, hookTimeout: 30_000, fileParallelism: false, pool: 'forks' } },
    ],
  },
});
