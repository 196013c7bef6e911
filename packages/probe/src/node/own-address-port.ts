/** A prober with an address of its own on an interface: macvtap (no privilege at all) or a packet socket. The kernel does not know it. */
import { existsSync, readFileSync } from 'node:fs';
import { now, PacketSocketPort, RealTimers, systemEntropy } from '@subflow/link';
import type { PacketPort } from '@subflow/link';
import { parseAddress, parsePrefix } from '@subflow/wire';
import type { IpAddress } from '@subflow/wire';
import { echoReply } from '../echo-reply.ts';
import { OwnAddresses } from '../own-addresses.ts';
import type { ProbePort, ReservedPort } from '../port.ts';

export interface OwnAddressOptions {
  interface: string;
  /** `192.0.2.9/24`; one of each family at most. */
  addresses: readonly string[];
  gateways?: readonly string[];
}

export class OwnAddressPort implements ProbePort {
  private readonly port: PacketPort;
  private readonly own: OwnAddresses;
  private readonly timers = new RealTimers();
  private handler: ((packet: Uint8Array) => void) | null = null;

  /** Throws LinkError `NO_PRIVILEGE`, `NO_DEVICE`; AddressError. */
  constructor(options: OwnAddressOptions) {
    const prefixes = options.addresses.map(parsePrefix);
    this.own = new OwnAddresses(
      prefixes.map((one) => one.address),
      systemEntropy(),
    );
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
    return this.timers.at(time, action);
  }

  source(target: IpAddress): IpAddress | null {
    return this.own.source(target);
  }

  otherSources(target: IpAddress): IpAddress[] {
    return this.own.otherSources(target);
  }

  reserve(_source: IpAddress, port?: number): ReservedPort {
    return this.own.reserve(port);
  }

  send(packet: Uint8Array): void {
    this.port.send(packet);
  }

  onPacket(handler: (packet: Uint8Array) => void): void {
    this.handler = handler;
  }

  close(): void {
    this.timers.clear();
    this.port.close();
  }

  private arrive(packet: Uint8Array): void {
    const reply = echoReply(packet, this.own.addresses);
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
