/** Looks on at packets of interfaces, from the IP header on: a packet socket, no libpcap. */
import { readdirSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { DescriptorPoll } from './descriptor-poll.ts';
import { LinkError } from './errors.ts';
import { attachFilter, bindPacket, close, EAGAIN, packetSocket, read, setSocketOption } from './system.ts';

const SOL_PACKET = 263;
const PACKET_IGNORE_OUTGOING = 23;

export interface PacketTapOptions {
  /** Name of an interface; all of them by default. */
  interface?: string;
  /** A classic BPF program, from the IP header on. */
  filter?: readonly (readonly [number, number, number, number])[];
  /** What leaves comes by again where it arrives (loopback): leave it out. */
  ignoreOutgoing?: boolean;
  /** Bytes of each packet that are looked at. */
  snapLength?: number;
}

/** Throws {@link LinkError} `NO_PRIVILEGE` without CAP_NET_RAW, `NO_DEVICE`. */
export class PacketTap {
  private readonly poll: DescriptorPoll;
  private readonly fd: number;
  private readonly buffer: Uint8Array;
  private readonly onPacket: (bytes: Uint8Array, length: number) => void;
  private stopped = false;

  /** `onPacket` gets a buffer that is used again: the packet is its first `length` bytes. */
  constructor(options: PacketTapOptions, onPacket: (bytes: Uint8Array, length: number) => void) {
    this.onPacket = onPacket;
    this.buffer = new Uint8Array(options.snapLength ?? 4096);
    this.fd = packetSocket(true);
    try {
      const index = options.interface === undefined ? 0 : interfaceIndex(options.interface);
      if (options.ignoreOutgoing === true) setSocketOption(this.fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, new Uint8Array([1, 0, 0, 0]));
      if (options.filter !== undefined) attachFilter(this.fd, options.filter);
      bindPacket(this.fd, index);
    } catch (error) {
      close(this.fd);
      throw error;
    }
    this.poll = new DescriptorPoll(this.fd, this.buffer, {
      read: (size) => {
        this.onPacket(this.buffer, size);
        this.drain();
      },
      // The interface went down: packets come again when it is up.
      failed: (errno) => errno === constants.errno.ENETDOWN,
    });
  }

  /** Does not keep the process alive. */
  unref(): void {
    this.poll.unref();
  }

  /** Takes what lies in the queue now, without waiting for the event loop. */
  drain(): void {
    while (!this.stopped) {
      const size = read(this.fd, this.buffer, this.buffer.length);
      if (size === -EAGAIN || size <= 0) return;
      this.onPacket(this.buffer, size);
    }
  }

  close(): void {
    this.stopped = true;
    this.poll.close();
  }
}

/** Names of the interfaces that are here. */
export function interfaceNames(): string[] {
  return readdirSync('/sys/class/net');
}

function interfaceIndex(name: string): number {
  try {
    if (name === '' || name.includes('/')) throw new Error('not a name');
    return Number(readFileSync(`/sys/class/net/${name}/ifindex`, 'utf8'));
  } catch (error) {
    throw new LinkError('NO_DEVICE', `there is no interface "${name}" here; expected one of ${interfaceNames().join(', ')}`, { cause: error });
  }
}
