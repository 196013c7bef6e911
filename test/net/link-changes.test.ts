/**
 * A stack whose interfaces go down and come up again: the subflow is closed, the peer hears REMOVE_ADDR over the other path, and
 * the subflow comes back. Nobody calls the host: the driver hears of it from the system.
 */
import { once } from 'node:events';
import { afterEach, expect, it } from 'vitest';
import { Namespace } from '@subflow/link';
import { connect, createServer, openStack } from '@subflow/net';
import type { Server, Socket, StackBackend } from '@subflow/net';
import type { StackEvent } from '@subflow/stack';
import { describeSystem } from '../interop/require-system.ts';

const PATIENCE = 10_000;
let serial = 0;

const undo: (() => void)[] = [];
afterEach(() => {
  for (const one of undo.splice(0).toReversed()) one();
});

function namespaceOf(label: string): Namespace {
  const namespace = new Namespace(`nlc${serial++}${label}`);
  undo.push(() => namespace.remove());
  return namespace;
}

function stackIn(namespace: Namespace, interfaces: Parameters<typeof openStack>[0] & object): StackBackend {
  const stack = namespace.inside(() => openStack(interfaces));
  undo.push(() => stack.stop());
  return stack;
}

async function until(done: () => boolean, instead: () => unknown): Promise<void> {
  for (const end = performance.now() + PATIENCE; !done();) {
    if (performance.now() > end) throw new Error(`not within ${PATIENCE} ms: ${JSON.stringify(instead())}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function connected(backend: StackBackend): Promise<Socket> {
  const socket = connect({ backend, host: '192.0.2.2', port: 7000 });
  undo.push(() => socket.destroy());
  await once(socket, 'connect');
  return socket;
}

/** Sends a line and waits for its echo. */
async function echoed(socket: Socket, text: string): Promise<void> {
  let got = '';
  const take = (chunk: Buffer): void => void (got += String(chunk));
  socket.on('data', take);
  socket.write(text);
  await until(
    () => got.length >= text.length,
    () => ({ sent: text, got }),
  );
  socket.off('data', take);
  expect(got).toBe(text);
}

/** Local addresses of the established subflows. */
const locals = (socket: Socket): string[] =>
  (socket.multipath!.info()?.subflows ?? [])
    .filter((one) => one.state.toLowerCase() === 'established')
    .map((one) => one.localAddress)
    .toSorted();

interface World {
  /** Connects to a server that sends back what it receives. */
  open(): Promise<Socket>;
  client: Namespace;
  devices: readonly string[];
  addresses: readonly string[];
  /** REMOVE_ADDRs that the server has received. */
  removed(): number;
}

/** A client with two interfaces and a server with one on a switch: what goes down at the client, the server learns only from the client. */
async function packetWorld(): Promise<World> {
  const [client, server, hub] = ['c', 's', 'h'].map(namespaceOf) as [Namespace, Namespace, Namespace];
  hub.ip('link', 'add', 'br0', 'type', 'bridge');
  hub.ip('link', 'set', 'br0', 'up');
  const plug = (namespace: Namespace, device: string, port: string): void => {
    namespace.ip('link', 'add', device, 'type', 'veth', 'peer', 'name', port, 'netns', hub.name);
    hub.ip('link', 'set', port, 'master', 'br0', 'up');
    namespace.ip('link', 'set', device, 'up');
  };
  plug(server, 'eth0', 's0');
  const devices = ['eth0', 'eth1'];
  const addresses = ['192.0.2.1', '192.0.2.17'];
  devices.forEach((device, i) => plug(client, device, `c${i}`));
  const serverStack = stackIn(server, { interfaces: [{ name: 'eth0', port: 'packet', addresses: ['192.0.2.2/24'] }] });
  const events: StackEvent[] = [];
  serverStack.onEvent = (event) => void events.push(event);
  const clientStack = stackIn(client, { interfaces: devices.map((name, i) => ({ name, port: 'packet', addresses: [`${addresses[i]}/24`] })) });
  const listening: Server = createServer({ backend: serverStack }, (socket) => {
    socket.on('error', () => undefined);
    socket.pipe(socket);
  });
  listening.listen(7000);
  await once(listening, 'listening');
  undo.push(() => listening.close());
  return {
    open: () => connected(clientStack),
    client,
    devices,
    addresses,
    removed: () => events.filter((one) => one.type === 'address-removed' && one.byPeer).length,
  };
}

/** Two TUN devices of the client, moved to a namespace whose kernel is the server. */
async function tunWorld(): Promise<World> {
  const kernel = namespaceOf('k');
  kernel.sysctl('net.ipv4.conf.all.rp_filter', 0);
  kernel.sysctl('net.ipv4.conf.default.rp_filter', 0);
  kernel.mptcpLimits(8, 8);
  const devices = [0, 1].map((i) => `sfn${process.pid % 10000}${'ab'[i]}${serial++}`);
  const addresses = ['192.0.2.1', '192.0.2.17'];
  const stack = openStack({ interfaces: devices.map((name, i) => ({ name, port: 'tun', addresses: [`${addresses[i]}/28`] })) });
  undo.push(() => stack.stop());
  devices.forEach((device, i) => kernel.adopt(device, `192.0.2.${16 * i + 2}/28`));
  const script = `require('net').createServer(s=>s.pipe(s).on('error',()=>{})).listen(7000,()=>console.log('up'))`;
  const child = kernel.start('mptcpize', ['run', process.execPath, '-e', script]);
  await once(child.stdout!, 'data');
  return { open: () => connected(stack), client: kernel, devices, addresses, removed: () => kernel.counters().get('MPTcpExtRmAddr') ?? 0 };
}

const WORLDS: Readonly<Record<string, () => Promise<World>>> = { 'packet sockets': packetWorld, 'TUN devices': tunWorld };

describeSystem('interfaces of a stack that go down and come up again', () => {
  for (const [kind, make] of Object.entries(WORLDS)) {
    it.each([
      ['the second path', 1],
      ['the path it began on', 0],
    ])(`${kind}: %s`, async (_name, down) => {
      const { open, client, devices, addresses, removed } = await make();
      const socket = await open();
      const both = async (): Promise<void> => {
        await until(
          () => locals(socket).length === 2,
          () => locals(socket),
        );
        expect(locals(socket)).toEqual(addresses.toSorted());
      };
      await echoed(socket, 'before');
      await both();
      for (let round = 1; round <= 2; round++) {
        const before = removed();
        client.ip('link', 'set', devices[down]!, 'down');
        await until(
          () => removed() > before && locals(socket).join() === addresses[1 - down],
          () => ({ removed: removed(), subflows: locals(socket) }),
        );
        await echoed(socket, `while it is down ${round}`);
        client.ip('link', 'set', devices[down]!, 'up');
        await both();
        // REMOVE_ADDR is sent twice: the second one, 200 ms later, must not cost the new subflow.
        await new Promise((resolve) => setTimeout(resolve, 500));
        expect(locals(socket)).toEqual(addresses.toSorted());
        await echoed(socket, `after it ${round}`);
      }
    });

    it(`${kind}: new connections take the interface that is up, and have no way out when none is`, async () => {
      const { open, client, devices, addresses } = await make();
      const socket = await open();
      await echoed(socket, 'before');
      const settled = (expected: readonly string[]): Promise<void> =>
        until(
          () => locals(socket).join() === expected.join(),
          () => locals(socket),
        );
      await settled(addresses.toSorted());
      client.ip('link', 'set', devices[0]!, 'down');
      await settled([addresses[1]!]);
      const other = await open();
      await echoed(other, 'over the second');
      expect(locals(other)).toEqual([addresses[1]]);
      client.ip('link', 'set', devices[1]!, 'down');
      await settled([]);
      await expect(open()).rejects.toMatchObject({ code: expect.stringMatching(/ENETUNREACH|EHOSTUNREACH|ENETDOWN/) as string });
      client.ip('link', 'set', devices[0]!, 'up');
      let again: Socket | null = null;
      for (let i = 0; i < 100 && again === null; i++) again = await open().catch(() => new Promise<null>((resolve) => setTimeout(() => resolve(null), 50)));
      await echoed(again!, 'over the first');
      expect(locals(again!)).toEqual([addresses[0]]);
    });
  }
});
