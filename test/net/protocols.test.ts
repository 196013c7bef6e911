/** fetch by undici, https.request, HTTP/2 and WebSocket over two subflows, one path cut in the middle; both backends. */
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { emulatedNetwork } from '@subflow/net';
import type { EmulatedNetwork } from '@subflow/net';
import { describeSystem } from '../interop/require-system.ts';
import { selfSigned } from './certificate.ts';
import { addressesOfPath, KernelWorld } from './kernel-world.ts';
import { PROTOCOLS, serveAll, transfer } from './protocols.ts';
import type { Outcome } from './protocols.ts';

const LINK = { rate: 30e6, delay: 10_000, queueTime: 100_000 };
const script = fileURLToPath(new URL('./protocol-peer.ts', import.meta.url));

describe('stack backend, two emulated paths', () => {
  const tls = selfSigned();
  let network: EmulatedNetwork | null = null;
  afterAll(() => network?.stop());
  for (const protocol of PROTOCOLS) {
    it(`${protocol} goes on when the first path is cut`, async () => {
      network?.stop();
      const made = emulatedNetwork([
        { name: 'wifi', link: LINK },
        { name: 'lte', link: LINK },
      ]);
      network = made;
      const servers = await serveAll(made.server, tls);
      const outcome = await transfer(protocol, made.client, made.addresses[0]!, () => made.paths[0]!.cut());
      expect(outcome).toMatchObject({ correct: true, subflows: 2 });
      for (const server of servers) server.close();
    }, 40_000);
  }
});

describeSystem('kernel backend, two emulated paths', () => {
  let world: KernelWorld;
  beforeAll(async () => {
    world = new KernelWorld([
      { name: 'wifi', link: LINK },
      { name: 'lte', link: LINK },
    ]);
    const tls = selfSigned();
    const server = world.start('server', process.execPath, ['--import', 'tsx', script, 'serve', tls.certFile, tls.keyFile]);
    server.stderr!.pipe(process.stderr);
    await new Promise((resolve) => server.stdout!.once('data', resolve));
  }, 30_000);
  afterAll(() => world?.remove());
  for (const protocol of PROTOCOLS) {
    it(`${protocol} goes on when the first path is cut`, async () => {
      world.paths[0]!.restore();
      const client = world.start('client', process.execPath, ['--import', 'tsx', script, 'fetch', protocol, addressesOfPath(0).server]);
      client.stderr!.pipe(process.stderr);
      const outcome = await new Promise<Outcome>((resolve, reject) => {
        client.once('exit', (code) => reject(new Error(`exit code ${code}`)));
        createInterface({ input: client.stdout! }).on('line', (line) => {
          if (line === 'middle') world.paths[0]!.cut();
          else resolve(JSON.parse(line) as Outcome);
        });
      });
      expect(outcome).toMatchObject({ correct: true, subflows: 2 });
    }, 60_000);
  }
});
