/**
 * Whole IP packets in and out of this machine's own addresses, beside the kernel's TCP: what an active prober needs.
 * CAP_NET_RAW is enough: source ports are held by listeners that hear nobody ({@link guardedListener}), so that the kernel
 * does not reset what is ours. With `firewall` an nft rule drops the kernel's resets instead (CAP_NET_ADMIN).
 */
import { readdirSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { ipVersion, IPV4, IPV6, parseAddress, PROTOCOL, sameAddress } from '@subflow/wire';
import { BPF } from './classic-bpf.ts';
import type { BpfInstruction } from './classic-bpf.ts';
import { now } from './clock.ts';
import { systemEntropy } from './entropy.ts';
import { LinkError } from './errors.ts';
import { command } from './netns.ts';
import { PacketTap } from './packet-tap.ts';
import { RealTimers } from './real-timers.ts';
import { close, EAGAIN, errnoName, guardedListener, rawSocket, sendRaw, sourceAddress } from './system.ts';

export interface RawPortOptions {
  /** Drop the kernel's resets by an nft rule, instead of holding ports. */
  firewall?: boolean;
  /** Look on at one interface only. */
  interface?: string;
}

/** Segments can be larger than any MTU where the kernel's offloads join them. */
const SNAP = 70_000;
const TABLE = 'subflow_probe_';
/** Our own resets bear this mark. */
const MARK = 0x5bf10a0e;
const FIRST_PORT = 61_000;
const PORTS = 4_000;
/** TCP, ICMP and ICMPv6 from the IP header on. */
const FILTER: readonly Readonly<BpfInstruction>[] = [
  [BPF.loadByte, 0, 0, IPV4.versionIhl],
  [BPF.and, 0, 0, 0xf0],
  [BPF.equals, 0, 4, 0x40],
  [BPF.loadByte, 0, 0, IPV4.protocol],
  [BPF.equals, 6, 0, PROTOCOL.tcp],
  [BPF.equals, 5, 0, PROTOCOL.icmp],
  [BPF.return, 0, 0, 0],
  [BPF.equals, 0, 4, 0x60],
  [BPF.loadByte, 0, 0, IPV6.nextHeader],
  [BPF.equals, 1, 0, PROTOCOL.tcp],
  [BPF.equals, 0, 1, PROTOCOL.icmpv6],
  [BPF.return, 0, 0, 0x40000],
  [BPF.return, 0, 0, 0],
];

export class RawPort {
  /** A packet socket sees packets of the same machine before their checksum is filled in. */
  readonly checksumsUnknown = true;
  /** Packets the kernel refused, by errno name. */
  readonly sendErrors = new Map<string, number>();
  private readonly tap: PacketTap;
  private readonly sockets = new Map<4 | 6, number>();
  private readonly held = new Set<number>();
  private readonly firewall: string | null;
  private readonly taken = new Set<number>();
  private readonly timers = new RealTimers();
  private readonly sources = new Map<string, Uint8Array | null>();
  private handler: ((packet: Uint8Array) => void) | null = null;
  private nextPort: number;
  private closed = false;

  /** Throws {@link LinkError} `NO_PRIVILEGE`. */
  constructor(options: RawPortOptions = {}) {
    this.firewall = options.firewall === true ? `${TABLE}${process.pid}` : null;
    this.nextPort = systemEntropy() % PORTS;
    // Asked for first: without it nothing is left behind.
    this.sockets.set(4, rawSocket(4, this.firewall === null ? 0 : MARK));
    try {
      this.tap = new PacketTap(
        { filter: FILTER, ignoreOutgoing: true, snapLength: SNAP, ...(options.interface === undefined ? {} : { interface: options.interface }) },
        (bytes, length) => this.handler?.(bytes.slice(0, length)),
      );
      if (this.firewall !== null) addRule(this.firewall);
    } catch (error) {
      for (const fd of this.sockets.values()) close(fd);
      throw error;
    }
  }

  now(): number {
    return now();
  }

  entropy(): number {
    return systemEntropy();
  }

  at(time: number, action: () => void): () => void {
    return this.timers.at(time, action);
  }

  source(target: Uint8Array): Uint8Array | null {
    const key = target.join();
    let known = this.sources.get(key);
    if (known === undefined) {
      known = sourceAddress(target);
      if (this.sources.size > 4096) this.sources.clear();
      this.sources.set(key, known);
    }
    return known;
  }

  otherSources(target: Uint8Array): Uint8Array[] {
    const first = this.source(target);
    return Object.values(networkInterfaces())
      .flatMap((list) => list ?? [])
      .filter((one) => !one.internal && !one.address.startsWith('fe80'))
      .map((one) => parseAddress(one.address))
      .filter((one) => one.length === target.length && (first === null || !sameAddress(one, first)));
  }

  /** Throws {@link LinkError} `PORT_IN_USE`. */
  reserve(source: Uint8Array, port?: number): { port: number; release(): void } {
    if (this.firewall !== null && port === undefined) {
      let chosen = FIRST_PORT + (this.nextPort++ % PORTS);
      while (this.taken.has(chosen)) chosen = FIRST_PORT + (this.nextPort++ % PORTS);
      this.taken.add(chosen);
      return { port: chosen, release: () => this.taken.delete(chosen) };
    }
    const listener = guardedListener(source, port ?? 0);
    this.held.add(listener.fd);
    return {
      port: listener.port,
      release: () => {
        if (this.held.delete(listener.fd)) close(listener.fd);
      },
    };
  }

  send(packet: Uint8Array): void {
    const family = ipVersion(packet) === 4 ? 4 : 6;
    let fd = this.sockets.get(family);
    if (fd === undefined) {
      fd = rawSocket(family, this.firewall === null ? 0 : MARK);
      this.sockets.set(family, fd);
    }
    const result = sendRaw(fd, packet);
    if (result === 0 || this.closed) return;
    const name = -result === EAGAIN ? 'EAGAIN' : errnoName(-result);
    this.sendErrors.set(name, (this.sendErrors.get(name) ?? 0) + 1);
  }

  onPacket(handler: (packet: Uint8Array) => void): void {
    this.handler = handler;
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.tap.close();
    this.timers.clear();
    for (const fd of [...this.sockets.values(), ...this.held]) close(fd);
    this.held.clear();
    if (this.firewall !== null) removeTable(this.firewall);
  }
}

/** Removes the firewall rules of probers that were killed. Returns the names of their tables. */
export function removeProbeTables(): string[] {
  let list: string;
  try {
    list = command('nft', ['list', 'tables']);
  } catch {
    return [];
  }
  const living = new Set(readdirSync('/proc').filter((name) => /^\d+$/.test(name)));
  const dead = [...list.matchAll(/^table inet (subflow_probe_(\d+))$/gm)].filter(([, , pid]) => !living.has(pid!)).map(([, name]) => name!);
  for (const name of dead) removeTable(name);
  return dead;
}

function addRule(table: string): void {
  removeProbeTables();
  process.once('exit', () => removeTable(table));
  const rules = `table inet ${table} {
  chain output {
    type filter hook output priority -300; policy accept;
    tcp flags & rst == rst tcp sport ${FIRST_PORT}-${FIRST_PORT + PORTS} meta mark != ${MARK} counter drop
  }
}
`;
  command('nft', ['-f', '-'], rules);
}

function removeTable(table: string): void {
  try {
    command('nft', ['delete', 'table', 'inet', table]);
  } catch (error) {
    // It is gone already: nothing is left to restore.
    if (!(error instanceof LinkError)) throw error;
  }
}
