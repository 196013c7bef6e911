/** The loopback interface of a host of ours: what is sent comes back, in the next turn of the event loop. */
import type { TransmitSlot } from '@subflow/stack';
import type { PacketHandler, PacketPort } from './port.ts';

/** Packets handed over before the stack gets to send. */
const BATCH = 64;
/** Packets under way; beyond, they are lost, as in any queue. */
const LIMIT = 4096;

export class LoopbackPort implements PacketPort {
  readonly name = 'lo';
  /** Packets lost because the queue was full. */
  dropped = 0;
  private handler: PacketHandler | null = null;
  private queue: Uint8Array[] = [];
  private scheduled = false;
  private closed = false;

  onPackets(handler: PacketHandler): void {
    this.handler = handler;
  }

  transmit(slot: TransmitSlot): void {
    const packet = new Uint8Array(slot.length);
    slot.copyTo(packet, 0);
    this.send(packet);
  }

  send(packet: Uint8Array): void {
    if (this.closed) return;
    if (this.queue.length >= LIMIT) {
      this.dropped++;
      return;
    }
    this.queue.push(packet);
    if (this.scheduled) return;
    this.scheduled = true;
    setImmediate(() => this.flush());
  }

  close(): void {
    this.closed = true;
    this.queue = [];
  }

  private flush(): void {
    this.scheduled = false;
    const { handler, queue } = this;
    this.queue = [];
    if (handler === null) return;
    queue.forEach((packet, i) => {
      // Nothing happens to packets on the way: their checksums, whole or partial, need no look.
      handler.packet(new DataView(packet.buffer), packet, 0, packet.length, true, 0);
      if (i % BATCH === BATCH - 1) handler.batchEnd();
    });
    handler.batchEnd();
  }
}
