/** Runs a host of ours in real time on packet ports: reads batches, sends what is ready, keeps the timers. */
import { TransmitSlot } from '@subflow/stack';
import type { Host, Interface, StackEvent } from '@subflow/stack';
import { now } from './clock.ts';
import { LongTimer } from './long-timer.ts';
import type { PacketPort } from './port.ts';

/** Packets sent before received ones get their turn: a full window must not starve acknowledgements. */
const SEND_BATCH = 64;
/** Keys kept ready for a server with a name, and draws in one go (about a millisecond). */
const KEY_POOL = 256;
const KEY_DRAWS = 900;

export class HostDriver {
  readonly host: Host;
  /** Sees every event, in order. */
  onEvent: ((event: StackEvent, now: number) => void) | null = null;
  private readonly ports: PacketPort[] = [];
  private readonly slot = new TransmitSlot();
  private readonly timer = new LongTimer(() => this.tick());
  private immediate: NodeJS.Immediate | null = null;
  private pumping = false;
  private stopped = false;
  private background = false;
  private filling = false;

  constructor(host: Host) {
    this.host = host;
  }

  /** Packets of an interface go through a port from now on, and its link's state is the interface's. */
  attach(through: Interface, port: PacketPort): void {
    this.ports[through.id] = port;
    if (this.background) port.unref?.();
    const { host } = this;
    port.onPackets({
      packet: (view, bytes, offset, length, checksumValid) => host.handlePacket(through, view, bytes, offset, length, checksumValid, now()),
      batchEnd: () => this.pump(),
    });
    port.onLinkChange?.((up) => {
      if (this.stopped) return;
      if (up) host.interfaceUp(through, now());
      else host.interfaceDown(through, now());
      this.pump();
    });
  }

  /** Sends what is ready, hands events out, arms the timer. Call it after application calls. */
  pump(): void {
    if (this.pumping || this.stopped) return;
    this.pumping = true;
    const { host, slot } = this;
    let sent = 0;
    let busy = true;
    while (busy) {
      busy = false;
      while (sent < SEND_BATCH && host.pollTransmit(slot, now())) {
        busy = true;
        sent++;
        const through = slot.interface!;
        if (through.up) this.ports[through.id]?.transmit(slot);
        slot.clear();
      }
      for (let event = host.pollEvent(); event !== null; event = host.pollEvent()) {
        busy = true;
        this.onEvent?.(event, now());
      }
      if (sent >= SEND_BATCH) break;
    }
    this.pumping = false;
    if (sent >= SEND_BATCH) this.soon();
    else this.fillKeys();
    this.arm();
  }

  /** Lets the process end although the host waits for something. */
  unref(): void {
    this.background = true;
    this.timer.unref();
    for (const port of this.ports) port?.unref?.();
  }

  now(): number {
    return now();
  }

  /** Stops timers and closes the ports. */
  stop(): void {
    this.stopped = true;
    this.timer.clear();
    if (this.immediate !== null) clearImmediate(this.immediate);
    for (const port of this.ports) port?.close();
  }

  private soon(): void {
    this.immediate ??= setImmediate(() => {
      this.immediate = null;
      this.tick();
    });
  }

  /** Keys that name this server are drawn when there is nothing else to do, a millisecond at a time. */
  private fillKeys(): void {
    if (this.filling || this.host.fillKeyPool(KEY_POOL, 0)) return;
    this.filling = true;
    const turn = (): void => {
      if (this.stopped || this.host.fillKeyPool(KEY_POOL, KEY_DRAWS)) this.filling = false;
      else setTimeout(turn, 1).unref();
    };
    setTimeout(turn, 1).unref();
  }

  private tick(): void {
    if (this.stopped) return;
    this.host.handleTimeout(now());
    this.pump();
  }

  private arm(): void {
    const at = this.host.pollTimeout();
    // A timer that is too early costs one look; one that must come earlier is set again.
    if (at < this.timer.at) this.timer.set(at);
  }
}
