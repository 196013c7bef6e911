/** TUN devices: IP packets between this process and the kernel, with segmentation and checksum offload or without. */
import { Socket } from 'node:net';
import { segmentize } from '@subflow/wire';
import type { TransmitSlot } from '@subflow/stack';
import { LinkError } from './errors.ts';
import type { PacketHandler, PacketPort } from './port.ts';
import { close, EAGAIN, errno, errnoName, ioctl, ioctlValue, O_CLOEXEC, O_NONBLOCK, O_RDWR, open, read, write } from './system.ts';

const TUNSETIFF = 0x400454ca;
const TUNSETOFFLOAD = 0x400454d0;
const IFF_TUN = 0x0001;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const TUN_F_CSUM = 1;
const TUN_F_TSO4 = 2;
const TUN_F_TSO6 = 4;
/** struct virtio_net_hdr: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset; host-endian. */
const VNET_HEADER = 10;
const VNET_NEEDS_CSUM = 1;
const VNET_DATA_VALID = 2;
const GSO_TCPV4 = 1;
const GSO_TCPV6 = 4;
/** The largest super-segment's payload: 64 KB less headers and options. */
export const TUN_SEGMENTATION_LIMIT = 65535 - 120;
const BUFFER = 70_000;
/** Packets read before the stack gets to send: one acknowledgement then covers them all (+14 % when receiving). */
const BATCH = 64;
const ENXIO_LIKE = new Set([5, 77]);

interface PipeHandle {
  open(fd: number): number;
}

export interface TunOptions {
  /** Segmentation and checksum offload; default true. */
  offload?: boolean;
}

/** Whether this process can make TUN devices; if not, why. */
export function tunObstacle(): LinkError | null {
  const fd = open('/dev/net/tun', O_RDWR | O_CLOEXEC);
  if (fd >= 0) {
    // Opening is not enough: only making a device tells whether we may. It vanishes with the descriptor.
    const request = new Uint8Array(40);
    new DataView(request.buffer).setUint16(16, IFF_TUN | IFF_NO_PI, true);
    const result = ioctl(fd, TUNSETIFF, request);
    const number = errno();
    close(fd);
    return result >= 0 ? null : new LinkError('NO_PRIVILEGE', `making a TUN device: ${errnoName(number)}; expected CAP_NET_ADMIN (run as root)`);
  }
  const number = errno();
  if (number === 13 || number === 1)
    return new LinkError('NO_PRIVILEGE', `/dev/net/tun: ${errnoName(number)}; expected read and write permission (run as root)`);
  return new LinkError('NO_TUN', `/dev/net/tun: ${errnoName(number)}; expected the TUN device`);
}

/** One TUN device, open in this process. It vanishes when closed or when the process ends, however it ends. */
export class Tun implements PacketPort {
  readonly name: string;
  readonly offload: boolean;
  /** Packets the kernel refused, by errno name. */
  readonly writeErrors = new Map<string, number>();
  private readonly fd: number;
  private readonly socket: Socket;
  private readonly hot = new Uint8Array(BUFFER);
  private readonly hotView = new DataView(this.hot.buffer);
  private readonly out = new Uint8Array(BUFFER);
  private readonly outView = new DataView(this.out.buffer);
  private handler: PacketHandler | null = null;
  private closed = false;

  /** Creates the device. Throws {@link LinkError} `NO_PRIVILEGE`, `NO_TUN` or `DEVICE_BUSY`. */
  constructor(name: string, options: TunOptions = {}) {
    this.name = name;
    this.offload = options.offload ?? true;
    const obstacle = tunObstacle();
    if (obstacle !== null) throw obstacle;
    const fd = open('/dev/net/tun', O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) throw new LinkError('NO_TUN', `/dev/net/tun: ${errnoName(errno())}`);
    const request = new Uint8Array(40);
    new TextEncoder().encodeInto(name.slice(0, 15), request);
    new DataView(request.buffer).setUint16(16, IFF_TUN | IFF_NO_PI | (this.offload ? IFF_VNET_HDR : 0), true);
    if (ioctl(fd, TUNSETIFF, request) < 0) {
      const number = errno();
      close(fd);
      if (number === 16) throw new LinkError('DEVICE_BUSY', `TUN device ${name} is in use by another process; expected a free name`);
      throw new LinkError(number === 1 ? 'NO_PRIVILEGE' : 'SYSTEM_CALL', `TUNSETIFF ${name}: ${errnoName(number)}`);
    }
    if (this.offload && ioctlValue(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) < 0) {
      const number = errno();
      close(fd);
      throw new LinkError('SYSTEM_CALL', `TUNSETOFFLOAD ${name}: ${errnoName(number)}`);
    }
    this.fd = fd;
    this.socket = this.watch();
  }

  onPackets(handler: PacketHandler): void {
    this.handler = handler;
  }

  /** Sends the packet in `slot`. */
  transmit(slot: TransmitSlot): void {
    if (this.closed) return;
    const at = this.offload ? VNET_HEADER : 0;
    const length = slot.copyTo(this.out, at);
    if (!this.offload) {
      if (slot.segmentSize > 0) segmentize(this.outView, this.out, 0, length, slot.segmentSize, (packet) => this.writePacket(packet, packet.length));
      else this.writePacket(this.out, length);
      return;
    }
    this.outView.setInt32(0, 0);
    this.outView.setInt32(4, 0);
    this.outView.setUint16(8, 0);
    if (slot.checksumPartial && slot.transportOffset >= 0) {
      this.out[0] = VNET_NEEDS_CSUM;
      this.outView.setUint16(6, slot.transportOffset, true);
      this.outView.setUint16(8, 16, true);
      if (slot.segmentSize > 0) {
        this.out[1] = slot.ipVersion === 4 ? GSO_TCPV4 : GSO_TCPV6;
        this.outView.setUint16(2, slot.headerLength, true);
        this.outView.setUint16(4, slot.segmentSize, true);
      }
    }
    this.writePacket(this.out, length + VNET_HEADER);
  }

  /** Sends a whole packet with complete checksums. */
  send(packet: Uint8Array): void {
    if (this.closed) return;
    if (!this.offload) {
      this.writePacket(packet, packet.length);
      return;
    }
    this.out.fill(0, 0, VNET_HEADER);
    this.out.set(packet, VNET_HEADER);
    this.writePacket(this.out, packet.length + VNET_HEADER);
  }

  unref(): void {
    this.socket.unref();
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.socket.destroy();
  }

  private writePacket(bytes: Uint8Array, length: number): void {
    const result = write(this.fd, bytes, length);
    if (result >= 0) return;
    const name = errnoName(-result);
    this.writeErrors.set(name, (this.writeErrors.get(name) ?? 0) + 1);
  }

  /**
   * Readiness from the event loop without native code: a pipe handle polls any descriptor, reads one packet into our
   * buffer, and the rest of the batch is read here. (`process.binding` is the only way to such a handle; 1.05 µs a
   * packet this way, 12 with `fs.read`.)
   */
  private watch(): Socket {
    const { Pipe, constants } = (
      process as unknown as { binding(name: string): { Pipe: new (type: number) => PipeHandle; constants: { SOCKET: number } } }
    ).binding('pipe_wrap');
    const handle = new Pipe(constants.SOCKET);
    handle.open(this.fd);
    const socket = new Socket({
      handle,
      onread: {
        buffer: this.hot,
        callback: (size: number) => {
          this.readBatch(size);
          return true;
        },
      },
    } as unknown as ConstructorParameters<typeof Socket>[0]);
    socket.on('error', (error: NodeJS.ErrnoException) => {
      // The device was taken down or moved: nothing to read until it is up again.
      if (!ENXIO_LIKE.has(Math.abs(error.errno ?? 0))) this.closed = true;
    });
    socket.resume();
    return socket;
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
    if (!this.offload) {
      handler.packet(this.hotView, this.hot, 0, size, false, 0);
      return;
    }
    if (size <= VNET_HEADER) return;
    const valid = (this.hot[0]! & (VNET_NEEDS_CSUM | VNET_DATA_VALID)) !== 0;
    const partial = (this.hot[0]! & VNET_NEEDS_CSUM) !== 0;
    handler.packet(this.hotView, this.hot, VNET_HEADER, size - VNET_HEADER, valid, partial ? Math.max(1, this.hotView.getUint16(4, true)) : 0);
  }
}
