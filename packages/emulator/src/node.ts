/** A host of ours on emulated links: moves packets, timers and events between the stack and a clock. */
import { TransmitSlot } from '@subflow/stack';
import type { Host, Interface, StackEvent } from '@subflow/stack';
import { segmentize } from '@subflow/wire';

/** The clock and timers a host lives by: an agenda, or what stands for one. */
export interface HostClock {
  readonly now: number;
  at(time: number, action: (now: number) => void): unknown;
}

/** What carries an interface's packets away; it keeps the array it is given. */
export type PacketSink = (packet: Uint8Array) => void;

export class EmulatedHost {
  readonly name: string;
  readonly host: Host;
  /** Sees every event, in order. */
  onEvent: ((event: StackEvent, now: number) => void) | null = null;
  private readonly agenda: HostClock;
  private readonly sinks: PacketSink[] = [];
  private readonly slot = new TransmitSlot();
  private wakeAt = Number.POSITIVE_INFINITY;
  private pumping = false;

  constructor(name: string, host: Host, agenda: HostClock) {
    this.name = name;
    this.host = host;
    this.agenda = agenda;
  }

  /** Connects an interface of the host to something that carries packets. */
  attach(through: Interface, sink: PacketSink): void {
    this.sinks[through.id] = sink;
  }

  /** A packet arrives on an interface. `checksumValid`: somebody vouches for its transport checksum. */
  receive(through: Interface, packet: Uint8Array, now: number, checksumValid = false): void {
    if (!through.up) return;
    this.host.handlePacket(through, new DataView(packet.buffer, packet.byteOffset, packet.byteLength), packet, 0, packet.length, checksumValid, now);
    this.pump();
  }

  /** Sends what is ready, hands events out, arms the wake-up. Call it after every application call. */
  pump(): void {
    // Event handlers call the application, which calls pump: the outer loop goes on.
    if (this.pumping) return;
    this.pumping = true;
    const { host, agenda, slot } = this;
    let busy = true;
    while (busy) {
      busy = false;
      while (host.pollTransmit(slot, agenda.now)) {
        busy = true;
        this.transmit();
      }
      for (let event = host.pollEvent(); event !== null; event = host.pollEvent()) {
        busy = true;
        this.onEvent?.(event, agenda.now);
      }
    }
    this.pumping = false;
    this.arm();
  }

  private transmit(): void {
    const { slot } = this;
    const sink = this.sinks[slot.interface!.id];
    const packet = new Uint8Array(slot.length);
    const { segmentSize } = slot;
    slot.copyTo(packet, 0);
    slot.clear();
    if (sink === undefined || !slot.interface!.up) return;
    if (segmentSize === 0) {
      sink(packet);
      return;
    }
    segmentize(new DataView(packet.buffer), packet, 0, packet.length, segmentSize, sink);
  }

  private arm(): void {
    const at = this.host.pollTimeout();
    if (at >= this.wakeAt) return;
    this.wakeAt = at;
    this.agenda.at(at, (now) => {
      if (this.wakeAt > now) return;
      this.wakeAt = Number.POSITIVE_INFINITY;
      this.host.handleTimeout(now);
      this.pump();
    });
  }
}
