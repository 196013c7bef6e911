/** Emulated links in real time: the emulator's agenda driven by the real clock, precise to about a millisecond. */
import { Agenda, EmulatedHost, LinkDirection, Random } from '@subflow/emulator';
import type { LinkConfig } from '@subflow/emulator';
import type { Host, Interface } from '@subflow/stack';
import { fillTcpChecksum, segmentize } from '@subflow/wire';
import { now } from './clock.ts';
import { LongTimer } from './long-timer.ts';
import type { PacketPort } from './port.ts';

/** Timers fire up to a millisecond late, and count whole ones: the last stretch is waited for by turning the event loop. */
const SPIN = 2_000;
const MILLISECOND = 1_000;

/** One end of an emulated link: takes packets off the link and puts packets on it. */
export interface LinkEnd {
  deliver(packet: Uint8Array, now: number): void;
  onSend(sink: (packet: Uint8Array) => void): void;
}

export class RealTimeNetwork {
  readonly agenda: Agenda;
  private readonly random: Random;
  private readonly timer = new LongTimer(() => this.run());
  private immediate: NodeJS.Immediate | null = null;
  private stopped = false;
  private links = 0;
  /** Largest lateness of an action seen, microseconds. */
  worstLateness = 0;

  constructor(seed: number) {
    this.agenda = new Agenda(now());
    this.random = new Random(seed);
  }

  /** Joins two ends by a link with its own random stream. */
  link(a: LinkEnd, b: LinkEnd, forward: LinkConfig, backward: LinkConfig): { forward: LinkDirection; backward: LinkDirection } {
    const index = this.links++;
    const there = new LinkDirection(this.agenda, this.random.fork(`forward${index}`), forward, (packet, at) => b.deliver(packet, at));
    const back = new LinkDirection(this.agenda, this.random.fork(`backward${index}`), backward, (packet, at) => a.deliver(packet, at));
    a.onSend((packet) => this.enter(there, packet));
    b.onSend((packet) => this.enter(back, packet));
    return { forward: there, backward: back };
  }

  /** An interface of a host of ours as a link end. */
  hostEnd(node: EmulatedHost, through: Interface): LinkEnd {
    return {
      deliver: (packet, at) => node.receive(through, packet, at),
      onSend: (sink) => node.attach(through, sink),
    };
  }

  /** A host of ours that lives on this network. */
  node(name: string, host: Host): EmulatedHost {
    return new EmulatedHost(name, host, this.agenda);
  }

  /** A port (a TUN device, say) as a link end. Super-segments are cut, partial checksums completed. */
  portEnd(port: PacketPort): LinkEnd {
    return {
      deliver: (packet) => port.send(packet),
      onSend: (sink) => {
        port.onPackets({
          packet: (view, bytes, offset, length, _valid, partial) => {
            if (partial > 1) {
              segmentize(view, bytes, offset, length, partial, sink);
              return;
            }
            const packet = bytes.slice(offset, offset + length);
            if (partial === 1) fillTcpChecksum(new DataView(packet.buffer), packet);
            sink(packet);
          },
          batchEnd: () => this.run(),
        });
      },
    };
  }

  /** Brings the agenda up to the present. Call it after application calls on nodes. */
  run(): void {
    if (this.stopped) return;
    const time = now();
    const late = time - this.agenda.next;
    if (late > this.worstLateness && Number.isFinite(late)) this.worstLateness = late;
    this.agenda.runUntil(time);
    this.arm();
  }

  /** Lets the process end although packets are under way. */
  unref(): void {
    this.timer.unref();
  }

  stop(): void {
    this.stopped = true;
    this.timer.clear();
    if (this.immediate !== null) clearImmediate(this.immediate);
  }

  private enter(direction: LinkDirection, packet: Uint8Array): void {
    // The agenda may be behind the clock: packets enter at the true time.
    direction.send(packet, Math.max(now(), this.agenda.now));
  }

  private arm(): void {
    const { next } = this.agenda;
    this.timer.clear();
    if (!Number.isFinite(next)) return;
    if (next - now() > SPIN) {
      this.timer.set(next - SPIN - MILLISECOND);
      return;
    }
    this.immediate ??= setImmediate(() => {
      this.immediate = null;
      this.run();
    });
  }
}
