/**
 * A balancer in software: several services, from the bytes of a packet to the packets that leave. The emulated and the
 * userspace data plane are this, with something that carries packets around it. Pure.
 */
import {
  buildPacket,
  formatAddress,
  ICMP,
  ICMP_HEADER,
  ICMPV6,
  ipDestination,
  ipHeader,
  ipLayout,
  ipSource,
  ipVersion,
  packetPorts,
  PROTOCOL,
} from '@subflow/wire';
import type { IcmpError, Segment } from '@subflow/wire';
import { Balancer } from './balancer.ts';
import { BeamerCore } from './beamer.ts';
import { DROP } from './core.ts';
import type { DecisionCore } from './core.ts';
import type { ServerSet } from './servers.ts';
import { encapsulate, tunnelOverhead } from './tunnel.ts';
import { rewriteEnd, rewriteError } from './translate.ts';
import type { End } from './translate.ts';

export interface SoftwareService {
  name: string;
  address: Uint8Array;
  port: number;
  /** Further ports of the service's address that are servers' own. */
  ownPorts: readonly number[];
  core: DecisionCore;
  forwarding: 'dsr' | 'nat' | 'encapsulation';
  /** Server id to its own address, and the port of the service there. */
  targets: ReadonlyMap<number, End>;
  generation: number;
}

/** What becomes of a packet. */
export type Outcome =
  /** Send it to this server: to its link-layer address with `dsr`, else by its destination. */
  | { kind: 'forward'; packet: Uint8Array; server: number; service: string }
  /** Send it back to where this one came from. */
  | { kind: 'back'; packet: Uint8Array }
  | { kind: 'drop'; reason: string }
  /** Not for a service of ours. */
  | { kind: 'pass' };

const PASS: Outcome = { kind: 'pass' };
const QUOTE = 128;
/** Code of "unreachable" (RFC 792). */
const FRAGMENTATION_NEEDED = 4;
const MOST_SERVICES = 255;

/** Chooses the service by address and port; a decision is its place times 256 plus the server. */
class ServicesCore implements DecisionCore {
  readonly design = 'several services';
  services: readonly SoftwareService[] = [];
  private byEnd = new Map<number, number[]>();

  get entries(): number {
    return this.services.reduce((sum, one) => sum + one.core.entries, 0);
  }

  get bytes(): number {
    return this.services.reduce((sum, one) => sum + one.core.bytes, 0);
  }

  set(services: readonly SoftwareService[]): void {
    this.services = services;
    this.byEnd = new Map();
    services.forEach((service, i) => {
      for (const port of [service.port, ...service.ownPorts]) {
        const key = keyOf(lastWord(service.address), port);
        this.byEnd.set(key, [...(this.byEnd.get(key) ?? []), i]);
      }
    });
  }

  decide(segment: Segment, now: number): number {
    const i = this.find(segment);
    if (i < 0) return DROP.notOurs;
    const server = this.services[i]!.core.decide(segment, now);
    return server > 0 ? (i << 8) | server : server;
  }

  related(segment: Segment, now: number): number {
    const i = this.find(segment);
    if (i < 0) return DROP.notOurs;
    const server = this.services[i]!.core.related(segment, now);
    return server > 0 ? (i << 8) | server : server;
  }

  setServers(_servers: ServerSet, _now: number): void {
    // Each service has its own.
  }

  private find(segment: Segment): number {
    const v4 = segment.ipVersion === 4 || (segment.destination1 | segment.destination2 | segment.destination3) === 0;
    const found = this.byEnd.get(keyOf(v4 ? segment.destination0 : segment.destination3, segment.destinationPort));
    if (found === undefined) return -1;
    for (const i of found) if (isFor(this.services[i]!.address, segment)) return i;
    return -1;
  }
}

export class SoftwareBalancer {
  /** Packets by service and by what became of them. */
  readonly counters = new Map<string, Map<string, number>>();
  /** Packets by service and server. */
  readonly perServer = new Map<string, Map<number, number>>();
  private readonly selector = new ServicesCore();
  private readonly front = new Balancer(this.selector);
  private readonly own: readonly Uint8Array[];
  private readonly mtu: number;
  /** Server address and port to its service: who packets of servers pretend to be. */
  private readonly backward = new Map<string, { service: SoftwareService; server: number }>();

  /** `own`: addresses of the balancer, where tunnels begin; `mtu` of the way to the servers. */
  constructor(own: readonly Uint8Array[], mtu = 1500) {
    this.own = own;
    this.mtu = mtu;
  }

  get services(): readonly SoftwareService[] {
    return this.selector.services;
  }

  setServices(services: readonly SoftwareService[]): void {
    this.selector.set(services.slice(0, MOST_SERVICES));
    this.backward.clear();
    for (const service of services) {
      if (!this.counters.has(service.name)) this.counters.set(service.name, new Map());
      if (!this.perServer.has(service.name)) this.perServer.set(service.name, new Map());
      if (service.forwarding !== 'nat') continue;
      for (const [server, end] of service.targets) this.backward.set(endKey(end.address, end.port), { service, server });
    }
  }

  /** A packet of a client, or an error about one of a server's. It may be changed in place. Takes any bytes. */
  handle(packet: Uint8Array, now: number): Outcome {
    const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
    const decision = this.front.handle(view, packet, 0, packet.length, now);
    if (decision === DROP.notOurs) return PASS;
    if (decision <= 0) {
      const reason = this.front.lastReason;
      this.count(this.serviceOf(packet), reason);
      return { kind: 'drop', reason };
    }
    const service = this.selector.services[decision >>> 8]!;
    return this.forward(service, decision & 0xff, packet, now);
  }

  /** A packet of a server on its way to a client (NAT only): null when it is none of ours, or cannot be. It is changed in place. */
  handleAnswer(packet: Uint8Array): Uint8Array | null {
    const source = sourceOf(packet);
    if (source === null) return null;
    const found = this.backward.get(endKey(source.address, source.port));
    if (found === undefined) return null;
    const end = { address: found.service.address, port: found.service.port };
    return rewriteEnd(packet, 'source', end) || rewriteError(packet, 'source', end) ? packet : null;
  }

  private forward(service: SoftwareService, server: number, packet: Uint8Array, now: number): Outcome {
    const target = service.targets.get(server);
    if (target === undefined) {
      this.count(service.name, 'noServer');
      return { kind: 'drop', reason: 'noServer' };
    }
    let out: Uint8Array = packet;
    if (service.forwarding === 'encapsulation') {
      if (packet.length + tunnelOverhead(target.address) > this.mtu) {
        this.count(service.name, 'tooBig');
        return { kind: 'back', packet: this.tooBig(packet, this.mtu - tunnelOverhead(target.address)) };
      }
      const { core } = service;
      const previous =
        core instanceof BeamerCore && core.previous !== 0 && !this.front.laterFragment ? (service.targets.get(core.previous)?.address ?? null) : null;
      const source = this.own.find((one) => one.length === target.address.length) ?? target.address;
      out = encapsulate(packet, { source, destination: target.address, previous, generation: service.generation, seconds: Math.floor(now / 1e6) });
    } else if (service.forwarding === 'nat') {
      if (!rewriteEnd(packet, 'destination', target) && !rewriteError(packet, 'destination', target)) {
        this.count(service.name, 'malformed');
        return { kind: 'drop', reason: 'malformed' };
      }
    }
    this.count(service.name, 'forwarded');
    const packets = this.perServer.get(service.name)!;
    packets.set(server, (packets.get(server) ?? 0) + 1);
    return { kind: 'forward', packet: out, server, service: service.name };
  }

  /** "Too big", from the service to the client (RFC 1191 §4, RFC 4443 §3.2). */
  private tooBig(packet: Uint8Array, mtu: number): Uint8Array {
    const v4 = ipVersion(packet) === 4;
    const client = ipSource(packet)!;
    const service = ipDestination(packet)!;
    const icmp: IcmpError = {
      kind: 'error',
      version: v4 ? 4 : 6,
      type: v4 ? ICMP.unreachable : ICMPV6.packetTooBig,
      code: v4 ? FRAGMENTATION_NEEDED : 0,
      checksum: 0,
      rest: mtu,
      quote: packet.slice(0, QUOTE),
    };
    return buildPacket(ipHeader(service, client, v4 ? PROTOCOL.icmp : PROTOCOL.icmpv6), { icmp });
  }

  private serviceOf(packet: Uint8Array): string {
    const destination = ipDestination(packet);
    const text = destination === null ? '' : formatAddress(destination);
    return this.selector.services.find((one) => formatAddress(one.address) === text)?.name ?? '';
  }

  private count(service: string, name: string): void {
    const counters = this.counters.get(service) ?? this.counters.set(service, new Map()).get(service)!;
    counters.set(name, (counters.get(name) ?? 0) + 1);
  }
}

/** Who sent a packet, or to whom the packet was sent that an ICMP error of the sender's own quotes. */
function sourceOf(packet: Uint8Array): End | null {
  const layout = ipLayout(packet);
  if (layout === null) return null;
  if (layout.protocol === PROTOCOL.tcp) return endOf(ipSource(packet), packetPorts(packet)?.source);
  if (layout.protocol !== PROTOCOL.icmp && layout.protocol !== PROTOCOL.icmpv6) return null;
  const quote = packet.subarray(layout.tcpOffset + ICMP_HEADER);
  return ipVersion(quote) === layout.ipVersion ? endOf(ipDestination(quote), packetPorts(quote)?.destination) : null;
}

function endOf(address: Uint8Array | null, port: number | undefined): End | null {
  return address === null || port === undefined ? null : { address, port };
}

function isFor(address: Uint8Array, segment: Segment): boolean {
  const view = new DataView(address.buffer, address.byteOffset, address.length);
  if (segment.destination0 !== view.getInt32(0)) return false;
  if (address.length === 4) return (segment.destination1 | segment.destination2 | segment.destination3) === 0;
  return segment.destination1 === view.getInt32(4) && segment.destination2 === view.getInt32(8) && segment.destination3 === view.getInt32(12);
}

function lastWord(address: Uint8Array): number {
  return new DataView(address.buffer, address.byteOffset, address.length).getInt32(address.length - 4);
}

function keyOf(word: number, port: number): number {
  return (word >>> 0) * 65_536 + port;
}

function endKey(address: Uint8Array, port: number): string {
  return `${formatAddress(address)} ${port}`;
}
