/**
 * Packet sockets: a host of ours on an interface that the system has, with addresses that nobody else has. The kernel
 * keeps its own addresses and never sees ours; on Ethernet we answer ARP and neighbour discovery ourselves.
 */
import { constants } from 'node:os';
import { ETHERNET, ETHERTYPE, inPrefix, ipDestination, ipVersion, IPV4, sameAddress } from '@subflow/wire';
import type { InterfaceAddress } from '@subflow/stack';
import { BPF } from './classic-bpf.ts';
import type { BpfInstruction } from './classic-bpf.ts';
import { LinkError } from './errors.ts';
import type { LinkSource } from './link-monitor.ts';
import { Neighbours } from './neighbours.ts';
import { LinkClient } from './rtnetlink.ts';
import type { LinkFacts } from './rtnetlink.ts';
import {
  attachFilter,
  bindPacket,
  close,
  errno,
  errnoName,
  namespaceOfSocket,
  O_CLOEXEC,
  O_NONBLOCK,
  O_RDWR,
  open,
  packetSocket,
  setSocketOption,
} from './system.ts';
import { VnetPort } from './vnet-port.ts';

const SOL_PACKET = 263;
const PACKET_VNET_HDR = 15;
const PACKET_IGNORE_OUTGOING = 23;
const ARPHRD_ETHERNET = 1;
const ARPHRD_NONE = 65534;
/** Packets kept for neighbours that have not answered yet. */
const MOST_HELD = 256;
/** ARP has no end of waiting: what is older is dropped. */
const HELD_TIME = 3000;

export interface PacketSocketOptions {
  /** Addresses of our host on this interface. The kernel must not have them. */
  addresses: readonly InterfaceAddress[];
  /** Routers for what is not on the link; Ethernet only. */
  gateways?: readonly Uint8Array[];
  /** The interface is a macvtap: its device (`/dev/tap7`), which whoever owns it may open without any capability. */
  tap?: string;
}

export class PacketSocketPort extends VnetPort {
  private readonly ethernet: boolean;
  private mac: Uint8Array;
  private index: number;
  private readonly tap: string | undefined;
  private readonly addresses: readonly InterfaceAddress[];
  private readonly gateways: readonly Uint8Array[];
  private neighbours: Neighbours;
  private held: { packet: Uint8Array; at: number }[] = [];

  /** Opens the interface. Throws {@link LinkError} `NO_PRIVILEGE`, `NO_DEVICE`. */
  constructor(name: string, options: PacketSocketOptions) {
    const facts = deviceFacts(name);
    const ethernet = facts.type === ARPHRD_ETHERNET;
    super(name, options.tap === undefined ? openSocket(facts.index, ethernet, options) : openTap(options.tap), true, ethernet ? ETHERNET.header : 0);
    this.ethernet = ethernet;
    this.mac = facts.mac;
    this.index = facts.index;
    this.tap = options.tap;
    this.addresses = options.addresses;
    this.gateways = options.gateways ?? [];
    this.neighbours = this.newNeighbours();
  }

  protected override linkSource(): { source: LinkSource; assumed: boolean } {
    return {
      assumed: false,
      source: {
        namespace: () => Math.max(-1, namespaceOfSocket(this.fd)),
        find: (links) => {
          const facts = links.byName(this.name);
          return facts === null || (facts.index !== this.index && !this.rebind(facts)) ? null : facts;
        },
        returnsAs: (name) => name === this.name,
      },
    };
  }

  /** What was learnt on the link before is worth nothing now. */
  protected override linkChanged(up: boolean): void {
    this.held = [];
    if (up) this.neighbours = this.newNeighbours();
  }

  /** Another device has taken the name of ours, which was removed: a modem was plugged in again. Returns whether it can take its place. */
  private rebind(facts: LinkFacts): boolean {
    if (this.tap !== undefined || (facts.type === ARPHRD_ETHERNET) !== this.ethernet) return false;
    bindPacket(this.fd, facts.index);
    this.index = facts.index;
    this.mac = facts.mac;
    this.neighbours = this.newNeighbours();
    return true;
  }

  private newNeighbours(): Neighbours {
    return new Neighbours(
      this.mac,
      this.addresses.map((one) => one.address),
      (frame) => this.sendFrame(frame),
      () => this.release(),
    );
  }

  protected override writeLinkHeader(out: Uint8Array, vnet: number, at: number, _length: number): boolean {
    if (!this.ethernet) return true;
    const destination = ipDestination(out, at);
    const hop = destination === null ? null : this.nextHop(destination);
    const mac = hop === null ? null : this.neighbours.resolve(hop, performance.now());
    if (mac === null) return false;
    out.set(mac, vnet + ETHERNET.destination);
    out.set(this.mac, vnet + ETHERNET.source);
    const type = ipVersion(out, at) === 6 ? ETHERTYPE.ipv6 : ETHERTYPE.ipv4;
    out[vnet + ETHERNET.type] = type >>> 8;
    out[vnet + ETHERNET.type + 1] = type & 0xff;
    return true;
  }

  protected override holdPacket(packet: Uint8Array): void {
    const now = performance.now();
    this.held = this.held.filter((one) => now - one.at < HELD_TIME);
    if (this.held.length >= MOST_HELD) {
      this.writeErrors.set('NO_NEIGHBOUR', (this.writeErrors.get('NO_NEIGHBOUR') ?? 0) + 1);
      return;
    }
    this.held.push({ packet, at: now });
  }

  protected override accepts(frame: Uint8Array, at: number, length: number): boolean {
    // Nothing may be taken before the constructor is done.
    if (this.neighbours === undefined) return false;
    if (this.ethernet && this.neighbours.take(frame, at, length, performance.now())) return false;
    const destination = ipDestination(frame, at, length);
    return destination !== null && this.addresses.some((one) => sameAddress(one.address, destination));
  }

  private nextHop(destination: Uint8Array): Uint8Array | null {
    for (const { address, bits } of this.addresses) if (address.length === destination.length && inPrefix(destination, address, bits)) return destination;
    return this.gateways.find((one) => one.length === destination.length) ?? null;
  }

  private release(): void {
    const packets = this.held;
    this.held = [];
    for (const { packet } of packets) this.send(packet);
  }
}

/** Index, kind, link-layer address and MTU of an interface of this thread's network namespace. Throws {@link LinkError} `NO_DEVICE`. */
export function deviceFacts(name: string): LinkFacts {
  const links = new LinkClient();
  try {
    const facts = links.byName(name);
    if (facts === null) throw new LinkError('NO_DEVICE', `there is no interface "${name}" here; expected one of \`ip link\``);
    if (facts.type !== ARPHRD_ETHERNET && facts.type !== ARPHRD_NONE)
      throw new LinkError('NO_DEVICE', `interface ${name} is of kind ${facts.type}; expected Ethernet (1) or one without a link layer, such as TUN (65534)`);
    return facts;
  } finally {
    links.close();
  }
}

/** The device of a macvtap: frames with virtio-net headers, as packet sockets have them. Throws {@link LinkError} `NO_PRIVILEGE`, `NO_DEVICE`. */
function openTap(path: string): number {
  const fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd >= 0) return fd;
  const number = errno();
  const refused = number === constants.errno.EACCES || number === constants.errno.EPERM;
  throw new LinkError(
    refused ? 'NO_PRIVILEGE' : 'NO_DEVICE',
    `${path}: ${errnoName(number)}; expected ${refused ? 'read and write permission on' : ''} the device of a macvtap`,
  );
}

function openSocket(index: number, ethernet: boolean, options: PacketSocketOptions): number {
  const fd = packetSocket();
  try {
    const on = new Uint8Array([1, 0, 0, 0]);
    setSocketOption(fd, SOL_PACKET, PACKET_VNET_HDR, on);
    setSocketOption(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, on);
    attachFilter(fd, destinationFilter(ethernet, options.addresses));
    bindPacket(fd, index);
  } catch (error) {
    close(fd);
    throw error;
  }
  return fd;
}

/** Keeps the system's own traffic away from this process: IPv4 for our addresses, ARP, and IPv6 (whose addresses are looked at here). */
function destinationFilter(ethernet: boolean, addresses: readonly InterfaceAddress[]): BpfInstruction[] {
  const ours = addresses.filter((one) => one.address.length === 4).map((one) => new DataView(one.address.buffer, one.address.byteOffset).getUint32(0));
  const ip = ethernet ? ETHERNET.header : 0;
  const program: BpfInstruction[] = [
    ...(ethernet
      ? ([[BPF.loadHalf, 0, 0, ETHERNET.type]] as const)
      : ([
          [BPF.loadByte, 0, 0, IPV4.versionIhl],
          [BPF.and, 0, 0, 0xf0],
        ] as const)
    ).map((one) => [...one] as BpfInstruction),
    // IPv4: on to the addresses; all else (ARP, IPv6) passes.
    [BPF.equals, 1, 0, ethernet ? ETHERTYPE.ipv4 : 0x40],
    [BPF.return, 0, 0, 0xffffffff],
    [BPF.loadWord, 0, 0, ip + IPV4.destination],
  ];
  ours.forEach((address, i) => program.push([BPF.equals, ours.length - i, 0, address]));
  program.push([BPF.return, 0, 0, 0], [BPF.return, 0, 0, 0xffffffff]);
  return program;
}
