/** What TUN devices and packet sockets share: a descriptor with virtio-net headers, read in batches by the event loop's own poll. */
import { constants } from 'node:os';
import { fillTcpChecksum, segmentize, TCP } from '@subflow/wire';
import type { TransmitSlot } from '@subflow/stack';
import { DescriptorPoll } from './descriptor-poll.ts';
import { LinkWatch } from './link-monitor.ts';
import type { LinkSource } from './link-monitor.ts';
import type { PacketHandler, PacketPort } from './port.ts';
import { EAGAIN, errnoName, read, write } from './system.ts';

/** struct virtio_net_hdr: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset; host-endian. */
export const VNET_HEADER = 10;
const VNET_NEEDS_CSUM = 1;
const VNET_DATA_VALID = 2;
const GSO_TCPV4 = 1;
const GSO_TCPV6 = 4;
const BUFFER = 70_000;
/** Packets read before the stack gets to send: one acknowledgement then covers them all (+14 % when receiving). */
const BATCH = 64;
/** Of a packet socket: its device went down, or is none; nothing to read until it is up again. */
const { ENETDOWN } = constants.errno;

export abstract class VnetPort implements PacketPort {
  readonly name: string;
  /** Packets come and go with virtio-net headers: segmentation and checksums are the kernel's work. */
  readonly offload: boolean;
  /** Packets the kernel refused, by errno name. */
  readonly writeErrors = new Map<string, number>();
  protected handler: PacketHandler | null = null;
  protected closed = false;
  protected readonly fd: number;
  /** Bytes between the virtio-net header and the IP header. */
  private readonly linkHeader: number;
  private readonly poll: DescriptorPoll;
  private watch: LinkWatch | null = null;
  private readonly hot = new Uint8Array(BUFFER);
  private readonly hotView = new DataView(this.hot.buffer);
  private readonly out = new Uint8Array(BUFFER);
  private readonly outView = new DataView(this.out.buffer);

  constructor(name: string, fd: number, offload: boolean, linkHeader: number) {
    this.name = name;
    this.fd = fd;
    this.offload = offload;
    this.linkHeader = linkHeader;
    this.poll = new DescriptorPoll(fd, this.hot, {
      read: (size) => this.readBatch(size),
      failed: (errno) => this.failed(errno),
    });
  }

  onPackets(handler: PacketHandler): void {
    this.handler = handler;
  }

  onLinkChange(handler: (up: boolean) => void): void {
    this.watch?.close();
    if (this.closed) return;
    const { source, assumed } = this.linkSource();
    this.watch = new LinkWatch(source, assumed, (up) => {
      this.linkChanged(up);
      handler(up);
    });
  }

  /** Sends the packet in `slot`. */
  transmit(slot: TransmitSlot): void {
    if (this.closed) return;
    const vnet = this.offload ? VNET_HEADER : 0;
    const at = vnet + this.linkHeader;
    const length = slot.copyTo(this.out, at);
    if (!this.writeLinkHeader(this.out, vnet, at, length)) {
      this.hold(slot);
      return;
    }
    if (!this.offload) {
      if (slot.segmentSize === 0) this.writeBytes(this.out, at + length);
      else segmentize(this.outView, this.out, at, length, slot.segmentSize, (packet) => this.send(packet));
      return;
    }
    this.clearVnet();
    if (slot.checksumPartial && slot.transportOffset >= 0) {
      this.out[0] = VNET_NEEDS_CSUM;
      this.outView.setUint16(6, this.linkHeader + slot.transportOffset, true);
      this.outView.setUint16(8, TCP.checksum, true);
      if (slot.segmentSize > 0) {
        this.out[1] = slot.ipVersion === 4 ? GSO_TCPV4 : GSO_TCPV6;
        this.outView.setUint16(2, this.linkHeader + slot.headerLength, true);
        this.outView.setUint16(4, slot.segmentSize, true);
      }
    }
    this.writeBytes(this.out, at + length);
  }

  /** Sends a whole packet with complete checksums. */
  send(packet: Uint8Array): void {
    if (this.closed) return;
    const vnet = this.offload ? VNET_HEADER : 0;
    const at = vnet + this.linkHeader;
    if (this.offload) this.clearVnet();
    this.out.set(packet, at);
    if (this.writeLinkHeader(this.out, vnet, at, packet.length)) this.writeBytes(this.out, at + packet.length);
    else this.holdPacket(packet.slice());
  }

  unref(): void {
    this.poll.unref();
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.watch?.close();
    this.poll.close();
  }

  /** Where the link of this port is; `assumed`: it counts as up before it has been set up. */
  protected abstract linkSource(): { source: LinkSource; assumed: boolean };

  /** The link went down, or is up again: perhaps another network. */
  protected linkChanged(_up: boolean): void {
    // Devices without a link layer remember nothing of it.
  }

  /** Writes the link-layer header of the packet at `at`; false while its destination is not known. */
  protected writeLinkHeader(_out: Uint8Array, _vnet: number, _at: number, _length: number): boolean {
    return true;
  }

  /** Keeps a packet until its destination is known. */
  protected holdPacket(_packet: Uint8Array): void {
    // Devices without a link layer know every destination.
  }

  /** Whether a received frame carries a packet for us; other frames are dealt with here. */
  protected accepts(_frame: Uint8Array, _at: number, _length: number): boolean {
    return true;
  }

  /** Sends a frame as it is. */
  protected sendFrame(frame: Uint8Array): void {
    if (this.closed) return;
    const vnet = this.offload ? VNET_HEADER : 0;
    if (this.offload) this.clearVnet();
    this.out.set(frame, vnet);
    this.writeBytes(this.out, vnet + frame.length);
  }

  /** Whatever else went wrong, the device is gone for good (EBADFD, a TUN device that was deleted). */
  private failed(errno: number): boolean {
    if (errno === ENETDOWN) return true;
    this.watch?.lost();
    this.close();
    return false;
  }

  private hold(slot: TransmitSlot): void {
    const packet = new Uint8Array(slot.length);
    slot.copyTo(packet, 0);
    const view = new DataView(packet.buffer);
    if (slot.segmentSize > 0) segmentize(view, packet, 0, packet.length, slot.segmentSize, (piece) => this.holdPacket(piece.slice()));
    else {
      if (slot.checksumPartial) fillTcpChecksum(view, packet);
      this.holdPacket(packet);
    }
  }

  private clearVnet(): void {
    this.outView.setInt32(0, 0);
    this.outView.setInt32(4, 0);
    this.outView.setUint16(8, 0);
  }

  private writeBytes(bytes: Uint8Array, length: number): void {
    const result = write(this.fd, bytes, length);
    if (result >= 0) return;
    const name = errnoName(-result);
    this.writeErrors.set(name, (this.writeErrors.get(name) ?? 0) + 1);
  }

  private readBatch(firstSize: number): void {
    let size = firstSize;
    let count = 0;
    const { handler } = this;
    for (;;) {
      if (handler !== null && size > 0) this.hand(handler, size);
      if (++count === BATCH) {
        handler?.batchEnd();
        count = 0;
      }
      if (this.closed) break;
      size = read(this.fd, this.hot, BUFFER);
      if (size === -EAGAIN || size <= 0) break;
    }
    handler?.batchEnd();
  }

  private hand(handler: PacketHandler, size: number): void {
    const vnet = this.offload ? VNET_HEADER : 0;
    const at = vnet + this.linkHeader;
    if (size <= at || !this.accepts(this.hot, at, size - at)) return;
    if (!this.offload) {
      handler.packet(this.hotView, this.hot, at, size - at, false, 0);
      return;
    }
    const valid = (this.hot[0]! & (VNET_NEEDS_CSUM | VNET_DATA_VALID)) !== 0;
    const partial = (this.hot[0]! & VNET_NEEDS_CSUM) !== 0;
    handler.packet(this.hotView, this.hot, at, size - at, valid, partial ? Math.max(1, this.hotView.getUint16(4, true)) : 0);
  }
}
