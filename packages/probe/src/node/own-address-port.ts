/** A prober with an address of its own on an interface: macvtap (no privilege at all) or a packet socket. The kernel does not know it. */
import { existsSync, readFileSync } from 'node:fs';
import { now, PacketSocketPort, systemEntropy } from '@subflow/link';
import type { PacketPort } from '@subflow/link';
import { parseAddress, parsePrefix, sameAddress } from '@subflow/wire';
import type { IpAddress } from '@subflow/wire';
import { echoReply } from '../echo-reply.ts';
import { ProbeError } from '../errors.ts';
import type { ProbePort, ReservedPort } from '../port.ts';

const FIRST_PORT = 32_768;
const PORTS = 28_000;

export interface OwnAddressOptions {
  interface: string;
  /** `192.0.2.9/24`; one of each family at most. */
  addresses: readonly string[];
  gateways?: readonly string[];
}

export class OwnAddressPort implements ProbePort {
  private readonly port: PacketPort;
  private readonly addresses: readonly IpAddress[];
  private readonly taken = new Set<number>();
  private readonly timers = new Set<NodeJS.Timeout>();
  private handler: ((packet: Uint8Array) => void) | null = null;
  private nextPort = systemEntropy() % PORTS;

  /** Throws LinkError `NO_PRIVILEGE`, `NO_DEVICE`; AddressError. */
  constructor(options: OwnAddressOptions) {
    const prefixes = options.addresses.map(parsePrefix);
    this.addresses = prefixes.map((one) => one.address);
    const tap = tapDevice(options.interface);
    this.port = new PacketSocketPort(options.interface, {
      addresses: prefixes,
      gateways: (options.gateways ?? []).map(parseAddress),
      ...(tap === null ? {} : { tap }),
    });
    this.port.onPackets({
      packet: (_view, bytes, offset, length) => this.arrive(bytes.slice(offset, offset + length)),
      batchEnd: () => undefined,
    });
  }

  now(): number {
    return now();
  }

  entropy(): number {
    return systemEntropy();
  }

  at(time: number, action: () => void): () => void {
    const timer = setTimeout(
      () => {
        this.timers.delete(timer);
        action();
      },
      Math.max(0, Math.ceil((time - now()) / 1000)),
    );
    this.timers.add(timer);
    return () => {
      clearTimeout(timer);
      this.timers.delete(timer);
    };
  }

  source(target: IpAddress): IpAddress | null {
    return this.addresses.find((one) => one.length === target.length) ?? null;
  }

  otherSources(target: IpAddress): IpAddress[] {
    const first = this.source(target);
    return this.addresses.filter((one) => one.length === target.length && first !== null && !sameAddress(one, first));
  }

  reserve(_source: IpAddress, port?: number): ReservedPort {
    if (port !== undefined && this.taken.has(port)) throw new ProbeError('BAD_TARGET', `port ${port} is in use; expected a free port`);
    let chosen = port ?? FIRST_PORT + (this.nextPort++ % PORTS);
    while (port === undefined && this.taken.has(chosen)) chosen = FIRST_PORT + (this.nextPort++ % PORTS);
    this.taken.add(chosen);
    return { port: chosen, release: () => this.taken.delete(chosen) };
  }

  send(packet: Uint8Array): void {
    this.port.send(packet);
  }

  onPacket(handler: (packet: Uint8Array) => void): void {
    this.handler = handler;
  }

  close(): void {
    for (const timer of this.timers) clearTimeout(timer);
    this.port.close();
  }

  private arrive(packet: Uint8Array): void {
    const reply = echoReply(packet, this.addresses);
    if (reply === null) this.handler?.(packet);
    else this.send(reply);
  }

  /** Packets of the same machine come before their checksum is filled in. */
  get checksumsUnknown(): boolean {
    return true;
  }
}

/** The device of a macvtap interface; null for other interfaces. */
function tapDevice(name: string): string | null {
  try {
    const device = `/dev/tap${readFileSync(`/sys/class/net/${name}/ifindex`, 'utf8').trim()}`;
    return existsSync(device) ? device : null;
  } catch {
    return null;
  }
}
