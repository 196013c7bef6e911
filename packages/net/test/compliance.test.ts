/**
 * node:net's behaviours, the same assertions for node:net itself, the kernel backend and the stack backend. The list was
 * made from the public files test/parallel/test-net-*.js of Node (`scripts/node-net-tests.mjs` fetches and runs them too).
 */
import * as nodeNet from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as subflow from '@subflow/net';
import { connecting } from './behaviours/connecting.ts';
import { data } from './behaviours/data.ts';
import { ending } from './behaviours/ending.ts';
import { Kit } from './behaviours/kit.ts';
import type { Net } from './behaviours/kit.ts';
import { serving } from './behaviours/serving.ts';

const all = [...connecting, ...data, ...ending, ...serving];
const ours = subflow as unknown as Net;

const implementations: { name: string; net: Net; backend: () => subflow.Backend | null }[] = [
  { name: 'node:net', net: nodeNet, backend: () => null },
  { name: 'kernel backend', net: ours, backend: () => subflow.kernelBackend },
  { name: 'stack backend', net: ours, backend: () => subflow.openStack({ tcp: { timeWait: 100_000 } }) },
];

it('covers at least 150 behaviours, each once', () => {
  expect(all.length).toBeGreaterThanOrEqual(150);
  expect(new Set(all.map((one) => one.name)).size).toBe(all.length);
});

for (const { name, net, backend } of implementations) {
  describe(name, () => {
    let before: subflow.Backend;
    beforeAll(() => {
      before = subflow.defaultBackend();
      const chosen = backend();
      if (chosen !== null) subflow.setDefaultBackend(chosen);
    });
    afterAll(() => {
      const used = subflow.defaultBackend();
      subflow.setDefaultBackend(before);
      if (used instanceof subflow.StackBackend) used.stop();
    });
    for (const behaviour of all) {
      it(
        behaviour.name,
        async () => {
          const kit = new Kit(net);
          try {
            await behaviour.run(kit);
          } finally {
            kit.cleanUp();
          }
        },
        10_000,
      );
    }
  });
}
