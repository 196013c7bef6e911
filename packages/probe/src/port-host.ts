/** A host of our stack on a probe port: the echo server's TCP, and the prober's own when it talks to one. */
import { EmulatedHost } from '@subflow/emulator';
import { Host } from '@subflow/stack';
import type { Connection, Interface, MptcpConfig, StackEvent } from '@subflow/stack';
import type { IpAddress } from '@subflow/wire';
import type { Hub } from './hub.ts';

export interface PortHostOptions {
  addresses: readonly IpAddress[];
  mptcp?: Partial<MptcpConfig>;
  mtu?: number;
  /** Sees what the host sends. */
  onSend?: (packet: Uint8Array) => void;
}

export class PortHost {
  readonly host: Host;
  onEvent: (event: StackEvent) => void = () => undefined;
  private readonly hub: Hub;
  private readonly node: EmulatedHost;
  private readonly through: Interface;

  constructor(hub: Hub, options: PortHostOptions) {
    this.hub = hub;
    const { port } = hub;
    this.host = new Host({ entropy: () => port.entropy(), mptcp: { ...options.mptcp } });
    const clock = {
      get now(): number {
        return port.now();
      },
      at: (time: number, action: (now: number) => void) => port.at(time, () => action(port.now())),
    };
    this.node = new EmulatedHost('echo', this.host, clock);
    this.through = this.host.addInterface({ name: 'probe', mtu: options.mtu ?? 1500, addresses: options.addresses.map((address) => ({ address, bits: 0 })) });
    this.node.attach(this.through, (packet) => {
      options.onSend?.(packet);
      hub.send(packet);
    });
    this.node.onEvent = (event) => this.onEvent(event);
  }

  /** A packet for this host. */
  receive(bytes: Uint8Array): void {
    this.node.receive(this.through, bytes, this.hub.now(), this.hub.port.checksumsUnknown === true);
  }

  /** Sends what an application call has made ready. */
  pump(): void {
    this.node.pump();
  }

  now(): number {
    return this.hub.now();
  }

  /** Everything that is there to read, up to `limit` octets. */
  read(connection: Connection, limit: number): Uint8Array {
    const chunks: Uint8Array[] = [];
    let total = 0;
    for (let chunk = connection.peek(); chunk !== null && total < limit; chunk = connection.peek()) {
      chunks.push(chunk.slice());
      total += chunk.length;
      connection.consume(chunk.length, this.now());
    }
    return joined(chunks);
  }
}

/** Pieces as one array. */
export function joined(pieces: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(pieces.reduce((total, one) => total + one.length, 0));
  let at = 0;
  for (const one of pieces) {
    out.set(one, at);
    at += one.length;
  }
  return out;
}
