/** The two worlds the demonstration runs in: paths to the Linux kernel in real time, or everything in this process in virtual time. */
import { createHash } from 'node:crypto';
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseAddress } from '@subflow/wire';
import { Agenda, EmulatedHost, LinkDirection, Random } from '@subflow/emulator';
import type { LinkConfig, Scenario } from '@subflow/emulator';
import { Host } from '@subflow/stack';
import type { StackEvent } from '@subflow/stack';
import { epoch, LinkError, Namespace, RealTimeNetwork, removeLeftovers, systemEntropy, Tun } from '@subflow/link';
import type { KernelMptcpInfo } from '@subflow/link';
import { addressesOf } from './addresses.ts';
import { HttpServer } from './http.ts';
import { payload } from './payload.ts';

export const PORT = 8080;

/** `up` goes from the client to the server. */
export interface WorldLink {
  up: LinkDirection;
  down: LinkDirection;
}

export interface World {
  readonly client: EmulatedHost;
  readonly links: WorldLink[];
  /** Address the client connects to. */
  readonly server: Uint8Array;
  /** SHA-256 of what is served, hexadecimal. */
  readonly digest: string;
  /** Wall-clock time of time 0, microseconds since the epoch. */
  readonly epoch: number;
  now(): number;
  /** Lets time pass: about `milliseconds` of it, real or virtual. */
  wait(milliseconds: number): Promise<void>;
  /** Does what is due after application calls. */
  settle(): void;
  /** The kernel's own view, when there is a kernel. */
  kernelView(): KernelMptcpInfo | null;
  stop(): void;
}

function clientHost(scenario: Scenario, entropy: () => number): Host {
  const host = new Host({ entropy, traceData: true, mptcp: { checksum: scenario.checksum }, tcp: { timeWait: 1_000_000 } });
  scenario.paths.forEach((path, i) => {
    const { client, bits } = addressesOf(i, path.family);
    const through = host.addInterface({ name: path.name, mtu: 1500, addresses: [{ address: parseAddress(client), bits }] });
    host.addRoute(parseAddress(path.family === 4 ? '0.0.0.0' : '::'), 0, through);
    if (i > 0) host.addEndpoint({ address: parseAddress(client), subflow: true, backup: path.backup });
  });
  return host;
}

/** Paths of TUN devices to a kernel server in a namespace. */
export async function kernelWorld(scenario: Scenario): Promise<World> {
  removeLeftovers();
  const namespace = new Namespace('server');
  const tuns: Tun[] = [];
  let child: ChildProcess | null = null;
  const network = new RealTimeNetwork(scenario.seed);
  const stop = (): void => {
    network.stop();
    child?.kill('SIGKILL');
    for (const tun of tuns) tun.close();
    namespace.remove();
  };
  try {
    namespace.sysctl('net.ipv4.conf.all.rp_filter', 0);
    namespace.sysctl('net.ipv4.conf.default.rp_filter', 0);
    namespace.mptcpLimits(8, 8);
    const host = clientHost(scenario, systemEntropy);
    const client = network.node('client', host);
    const links: WorldLink[] = [];
    scenario.paths.forEach((path, i) => {
      const { server, bits } = addressesOf(i, path.family);
      const tun = new Tun(`sf${process.pid % 100000}${path.name}`.slice(0, 15), { offload: false });
      tuns.push(tun);
      namespace.adopt(tun.name, `${server}/${bits}`);
      if (i > 0 && path.family !== scenario.paths[0]!.family) namespace.mptcpEndpoint(server, tun.name, 'signal');
      const link = network.link(network.hostEnd(client, host.interfaces[i]!), network.portEnd(tun), path.link, path.link);
      links.push({ up: link.forward, down: link.backward });
    });
    const address = addressesOf(0, scenario.paths[0]!.family).server;
    const script = fileURLToPath(new URL('./kernel-server.js', import.meta.url));
    child = namespace.start(process.execPath, [script, address, String(PORT), String(scenario.transfer.size), String(scenario.seed)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let view: KernelMptcpInfo | null = null;
    const digest = await new Promise<string>((resolve, reject) => {
      child!.once('exit', (code) => reject(new LinkError('UNREACHABLE', `the HTTP server ended with exit code ${code} before it listened`)));
      createInterface({ input: child!.stdout! }).on('line', (line) => {
        const message = JSON.parse(line) as { op: string; digest?: string; info?: KernelMptcpInfo; code?: string; message?: string };
        if (message.op === 'listening') resolve(message.digest!);
        else if (message.op === 'info') view = message.info ?? null;
        else reject(Object.assign(new Error(message.message), { code: message.code }));
      });
    });
    return {
      client,
      links,
      server: parseAddress(address),
      digest,
      epoch,
      now: () => network.agenda.now,
      wait: (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds)),
      settle: () => {
        network.run();
        client.pump();
        network.run();
      },
      kernelView: () => view,
      stop,
    };
  } catch (error) {
    stop();
    throw error;
  }
}

/** Our stack at both ends, in virtual time. `fast`: do not wait for real time. */
export function emulatedWorld(scenario: Scenario, fast: boolean): World {
  const agenda = new Agenda();
  const random = new Random(scenario.seed);
  const entropy = random.fork('entropy');
  const client = new EmulatedHost(
    'client',
    clientHost(scenario, () => entropy.uint32()),
    agenda,
  );
  const serverHost = new Host({ entropy: () => entropy.uint32(), mptcp: { checksum: scenario.checksum }, tcp: { timeWait: 1_000_000 } });
  const server = new EmulatedHost('server', serverHost, agenda);
  const body = payload(scenario.transfer.size, scenario.seed);
  const digest = createHash('sha256').update(body).digest('hex');
  const links = scenario.paths.map((path, i) => {
    const addresses = addressesOf(i, path.family);
    const own = client.host.interfaces[i]!;
    const peer = serverHost.addInterface({ name: path.name, mtu: 1500, addresses: [{ address: parseAddress(addresses.server), bits: addresses.bits }] });
    serverHost.addRoute(parseAddress(addresses.client), path.family === 4 ? 32 : 128, peer);
    if (i > 0 && path.family !== scenario.paths[0]!.family) serverHost.addEndpoint({ address: parseAddress(addresses.server), signal: true });
    const make = (name: string, config: LinkConfig, deliver: (packet: Uint8Array, now: number) => void): LinkDirection =>
      new LinkDirection(agenda, random.fork(name), config, deliver);
    const up = make(`up${i}`, path.link, (packet, now) => server.receive(peer, packet, now));
    const down = make(`down${i}`, path.link, (packet, now) => client.receive(own, packet, now));
    client.attach(own, (packet) => up.send(packet));
    server.attach(peer, (packet) => down.send(packet));
    return { up, down };
  });
  // The server answers each subflow on the path it came by, whatever address it was aimed at.
  serverHost.listen({ port: PORT });
  const servers = new Map<number, HttpServer>();
  server.onEvent = (event: StackEvent, now) => {
    if (!('connection' in event)) return;
    if (event.type === 'connection-accepted') servers.set(event.connection, new HttpServer(serverHost.connections.get(event.connection)!, body, digest));
    const one = servers.get(event.connection);
    if (event.type === 'connection-readable' || event.type === 'connection-accepted') one?.read(now);
    if (event.type === 'connection-writable') one?.send(now);
    if (event.type === 'connection-closed') servers.delete(event.connection);
    server.pump();
  };
  const startedAt = performance.now();
  return {
    client,
    links,
    server: parseAddress(addressesOf(0, scenario.paths[0]!.family).server),
    digest,
    epoch: Date.now() * 1000,
    now: () => agenda.now,
    wait: async (milliseconds) => {
      agenda.runUntil(agenda.now + milliseconds * 1000);
      const ahead = agenda.now / 1000 - (performance.now() - startedAt);
      // Yielding keeps Ctrl-C and the screen alive.
      await new Promise((resolve) => setTimeout(resolve, fast ? 0 : Math.max(0, ahead)));
    },
    settle: () => client.pump(),
    kernelView: () => null,
    stop: () => undefined,
  };
}
