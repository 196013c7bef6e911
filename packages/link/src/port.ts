/** What every link driver offers: packets in, packets out. */
import type { TransmitSlot } from '@subflow/stack';

export interface PacketHandler {
  /**
   * One IP packet, valid during the call only. `checksumValid`: the transport checksum needs no look.
   * `partial`: 0 when the checksum field is complete; otherwise it holds only the pseudo-header sum, and the value is
   * the segment size the packet is meant to be cut to (1 when it is not to be cut).
   */
  packet(view: DataView, bytes: Uint8Array, offset: number, length: number, checksumValid: boolean, partial: number): void;
  /** No more packets for now: time to acknowledge and send. */
  batchEnd(): void;
}

export interface PacketPort {
  readonly name: string;
  /** Takes super-segments with partial checksums (`TUN_SEGMENTATION_LIMIT`), and gives them. */
  readonly offload?: boolean;
  onPackets(handler: PacketHandler): void;
  /** Sends what the stack wrote into a slot. */
  transmit(slot: TransmitSlot): void;
  /** Sends a whole packet with complete checksums. */
  send(packet: Uint8Array): void;
  close(): void;
  /** Tells when the link below goes down and comes up again, from then on; a port whose link is down says so at once. */
  onLinkChange?(handler: (up: boolean) => void): void;
  /** Lets the process end although the port is open. */
  unref?(): void;
}
