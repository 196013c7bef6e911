/** Ways to get a stack under one's sockets: on devices of this machine, or in the emulator, without privileges. */
import { PERFECT_LINK } from '@subflow/emulator';
import type { LinkConfig, LinkDirection } from '@subflow/emulator';
import { HostDriver, LoopbackPort, PacketSocketPort, RealTimeNetwork, systemEntropy, Tun, TUN_SEGMENTATION_LIMIT } from '@subflow/link';
import type { PacketPort } from '@subflow/link';
import { Host } from '@subflow/stack';
import type { Interface, InterfaceAddress, MptcpConfig, TcpConfig } from '@subflow/stack';
import { formatAddress, parseAddress, parsePrefix } from '@subflow/wire';
import { requireIp } from '../addresses.ts';
import { StackBackend } from './backend.ts';
import type { StackRunner } from './backend.ts';

/**
 * Linux's limit (tcp_wmem), bytes. More lets a sender on a fast path run ahead until the receiver's queue no longer fits
 * its cache: 9 to 13 Gbit/s instead of 13 to 16 over TUN.
 */
const MAX_SEND_BUFFER = 4 << 20;

/** One interface of a stack. */
export interface StackInterface {
  name: string;
  /** Where packets go: a TUN device made under this name, a packet socket on a device that is there, or a port of your own. */
  port: 'tun' | 'packet' | PacketPort;
  /** `192.0.2.1/24`, `2001:db8::1/64`. */
  addresses: readonly string[];
  /** Reaches everything else too; default true. */
  defaultRoute?: boolean;
  /** Packet sockets on Ethernet: the router, or one for each family. */
  gateway?: string | readonly string[];
  /** Use it only when no other works. */
  backup?: boolean;
  mtu?: number;
  /** TUN: segmentation offload; default true. */
  offload?: boolean;
}

export interface StackOptions {
  interfaces?: readonly StackInterface[];
  tcp?: Partial<TcpConfig>;
  mptcp?: Partial<MptcpConfig>;
  traceData?: boolean;
}

/** A stack on devices of this machine. Without interfaces it reaches itself only (127.0.0.1, ::1). Throws {@link LinkError}. */
export function openStack(options: StackOptions = {}): StackBackend {
  const host = new Host({
    entropy: systemEntropy,
    tcp: { maxSendBuffer: MAX_SEND_BUFFER, ...options.tcp },
    mptcp: options.mptcp ?? {},
    traceData: options.traceData ?? false,
  });
  const driver = new HostDriver(host);
  driver.unref();
  try {
    for (const one of options.interfaces ?? []) {
      const { port, offload } = openPort(one);
      const through = addInterface(host, one, offload);
      driver.attach(through, port);
    }
  } catch (error) {
    driver.stop();
    throw error;
  }
  driver.attach(addLoopback(host), new LoopbackPort());
  return new StackBackend(driver);
}

function openPort(one: StackInterface): { port: PacketPort; offload: boolean } {
  if (typeof one.port !== 'string') return { port: one.port, offload: one.port.offload ?? false };
  if (one.port === 'tun') {
    const tun = new Tun(one.name, { offload: one.offload ?? true });
    return { port: tun, offload: tun.offload };
  }
  const gateways = [one.gateway ?? []].flat().map(requireIp);
  return { port: new PacketSocketPort(one.name, { addresses: one.addresses.map((text) => parsePrefix(text)), gateways }), offload: true };
}

function addInterface(host: Host, one: Omit<StackInterface, 'port'>, offload: boolean): Interface {
  const addresses: InterfaceAddress[] = one.addresses.map((text) => parsePrefix(text));
  const through = host.addInterface({
    name: one.name,
    mtu: one.mtu ?? 1500,
    addresses,
    ...(offload ? { segmentationLimit: TUN_SEGMENTATION_LIMIT, checksumOffload: true } : {}),
  });
  for (const { address } of addresses) {
    if (one.defaultRoute ?? true) host.addRoute(parseAddress(address.length === 4 ? '0.0.0.0' : '::'), 0, through);
    // Every address may carry a subflow: that is what the stack is for. The first is the one connections begin with.
    host.addEndpoint({ address, subflow: true, backup: one.backup ?? false });
  }
  return through;
}

function addLoopback(host: Host): Interface {
  return host.addInterface({
    name: 'lo',
    mtu: 65535,
    addresses: [
      { address: parseAddress('127.0.0.1'), bits: 8 },
      { address: parseAddress('::1'), bits: 128 },
    ],
    segmentationLimit: 65535 - 120,
    checksumOffload: true,
  });
}

/** A path of an emulated network. */
export interface EmulatedPath {
  name: string;
  link?: Partial<LinkConfig>;
  family?: 4 | 6;
  backup?: boolean;
}

export interface EmulatedNetwork {
  client: StackBackend;
  server: StackBackend;
  /** Addresses of the server, one for each path. */
  addresses: string[];
  paths: { name: string; up: LinkDirection; down: LinkDirection; cut(): void; restore(): void }[];
  stop(): void;
}

export interface EmulationOptions {
  tcp?: Partial<TcpConfig>;
  mptcp?: Partial<MptcpConfig>;
  /** Settings of the server's side; default: the same. */
  serverMptcp?: Partial<MptcpConfig>;
  seed?: number;
}

/** Two stacks in this process, joined by emulated paths in real time. No privileges needed. */
export function emulatedNetwork(paths: readonly EmulatedPath[], options: EmulationOptions = {}): EmulatedNetwork {
  const network = new RealTimeNetwork(options.seed ?? 1);
  network.unref();
  const make = (mptcp: Partial<MptcpConfig> | undefined): Host =>
    new Host({ entropy: systemEntropy, tcp: { timeWait: 1_000_000, ...options.tcp }, mptcp: mptcp ?? {} });
  const hosts = { client: make(options.mptcp), server: make(options.serverMptcp ?? options.mptcp) };
  const nodes = { client: network.node('client', hosts.client), server: network.node('server', hosts.server) };
  const addresses: string[] = [];
  const made = paths.map((path, i) => {
    const family = path.family ?? 4;
    const prefix = family === 4 ? `192.0.2.${4 * i}` : `2001:db8:${i}::`;
    const at = (n: number): string => (family === 4 ? `192.0.2.${4 * i + n}` : `${prefix}${n}`);
    const bits = family === 4 ? 30 : 64;
    const client = addInterface(hosts.client, { name: path.name, addresses: [`${at(1)}/${bits}`], backup: path.backup ?? false }, false);
    const server = hosts.server.addInterface({ name: path.name, mtu: 1500, addresses: [{ address: parseAddress(at(2)), bits }] });
    // The server answers each subflow on the path it came by, whatever address it was aimed at.
    hosts.server.addRoute(parseAddress(at(1)), family === 4 ? 32 : 128, server);
    if (i > 0 && family !== (paths[0]!.family ?? 4)) hosts.server.addEndpoint({ address: parseAddress(at(2)), signal: true });
    addresses.push(formatAddress(parseAddress(at(2))));
    const config = { ...PERFECT_LINK, ...path.link };
    const link = network.link(network.hostEnd(nodes.client, client), network.hostEnd(nodes.server, server), config, config);
    const setUp = (up: boolean): void => {
      link.forward.setUp(up);
      link.backward.setUp(up);
    };
    return { name: path.name, up: link.forward, down: link.backward, cut: () => setUp(false), restore: () => setUp(true) };
  });
  const backend = (name: 'client' | 'server'): StackBackend => {
    const node = nodes[name];
    const lo = addLoopback(hosts[name]);
    node.attach(lo, (packet) => {
      network.agenda.at(network.agenda.now, (at) => node.receive(lo, packet, at));
    });
    const runner: StackRunner = {
      host: hosts[name],
      onEvent: null,
      pump: () => {
        network.run();
        node.pump();
        network.run();
      },
      now: () => network.agenda.now,
      stop: () => network.stop(),
    };
    node.onEvent = (event, time) => runner.onEvent?.(event, time);
    return new StackBackend(runner);
  };
  const [client, server] = [backend('client'), backend('server')];
  const stop = (): void => {
    client.stop();
    server.stop();
  };
  return { client, server, addresses, paths: made, stop };
}
