/** A small netlink client: messages, attributes, requests with their answers, multicast groups. Formats: linux/netlink.h, linux/genetlink.h. */
import { constants } from 'node:os';
import { DescriptorPoll } from './descriptor-poll.ts';
import { LinkError } from './errors.ts';
import { close, errnoName, netlinkSocket, receive, setSocketOption, write } from './system.ts';

export const NETLINK_ROUTE = 0;
export const NETLINK_SOCK_DIAG = 4;
export const NETLINK_GENERIC = 16;
const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
const NLM_F_DUMP = 0x300;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const HEADER = 16;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
/** The largest answers of a dump are 32 KB. */
const BUFFER = 65536;
const NESTED = 0x8000;

/** Attribute type → value; of several of one type the last. */
export type Attributes = Map<number, Uint8Array>;

/** Writes attributes, each padded to 4 bytes. */
export class AttributeWriter {
  private bytes = new Uint8Array(256);
  private view = new DataView(this.bytes.buffer);
  private at = 0;

  u8(type: number, value: number): this {
    return this.raw(type, new Uint8Array([value]));
  }

  u16(type: number, value: number): this {
    return this.raw(type, new Uint8Array(new Uint16Array([value]).buffer));
  }

  u32(type: number, value: number): this {
    return this.raw(type, new Uint8Array(new Uint32Array([value >>> 0]).buffer));
  }

  text(type: number, value: string): this {
    return this.raw(type, new TextEncoder().encode(`${value}\0`));
  }

  nested(type: number, inner: AttributeWriter): this {
    return this.raw(type | NESTED, inner.done());
  }

  raw(type: number, value: Uint8Array): this {
    const length = 4 + value.length;
    const padded = (length + 3) & ~3;
    if (this.at + padded > this.bytes.length) {
      const bigger = new Uint8Array(2 * (this.at + padded));
      bigger.set(this.bytes);
      this.bytes = bigger;
      this.view = new DataView(bigger.buffer);
    }
    this.view.setUint16(this.at, length, true);
    this.view.setUint16(this.at + 2, type, true);
    this.bytes.set(value, this.at + 4);
    this.at += padded;
    return this;
  }

  done(): Uint8Array {
    return this.bytes.slice(0, this.at);
  }
}

/** Reads attributes; what is cut short is left out. */
export function parseAttributes(bytes: Uint8Array): Attributes {
  const out: Attributes = new Map();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + 4 <= bytes.length;) {
    const length = view.getUint16(at, true);
    if (length < 4 || at + length > bytes.length) break;
    out.set(view.getUint16(at + 2, true) & 0x3fff, bytes.subarray(at + 4, at + length));
    at += (length + 3) & ~3;
  }
  return out;
}

export function u8(attributes: Attributes, type: number): number | null {
  return attributes.get(type)?.[0] ?? null;
}

export function u16(attributes: Attributes, type: number): number | null {
  const value = attributes.get(type);
  return value === undefined || value.length < 2 ? null : new DataView(value.buffer, value.byteOffset).getUint16(0, true);
}

/** A port: big-endian. */
export function be16(attributes: Attributes, type: number): number | null {
  const value = attributes.get(type);
  return value === undefined || value.length < 2 ? null : new DataView(value.buffer, value.byteOffset).getUint16(0);
}

export function u32(attributes: Attributes, type: number): number | null {
  const value = attributes.get(type);
  return value === undefined || value.length < 4 ? null : new DataView(value.buffer, value.byteOffset).getUint32(0, true);
}

export interface NetlinkMessage {
  type: number;
  payload: Uint8Array;
}

/** A request that the kernel refused. */
export class NetlinkError extends LinkError {
  readonly errno: number;

  constructor(what: string, errno: number) {
    const name = errnoName(errno);
    super(name === 'EPERM' || name === 'EACCES' ? 'NO_PRIVILEGE' : 'SYSTEM_CALL', `netlink, ${what}: ${name}`);
    this.errno = errno;
  }
}

/** Requests and answers. The kernel answers while the request is made, so nothing here waits for the network. */
export class NetlinkClient {
  private readonly fd: number;
  private sequence = 0;
  private readonly buffer = new Uint8Array(BUFFER);

  constructor(protocol: number) {
    this.fd = netlinkSocket(protocol, true);
  }

  /** Sends one request; returns the answers. Throws {@link NetlinkError}. */
  request(what: string, type: number, payload: Uint8Array, dump: boolean): NetlinkMessage[] {
    const message = new Uint8Array(HEADER + payload.length);
    const view = new DataView(message.buffer);
    const sequence = ++this.sequence;
    view.setUint32(0, message.length, true);
    view.setUint16(4, type, true);
    view.setUint16(6, NLM_F_REQUEST | (dump ? NLM_F_DUMP : NLM_F_ACK), true);
    view.setUint32(8, sequence, true);
    message.set(payload, HEADER);
    const sent = write(this.fd, message, message.length);
    if (sent < 0) throw new NetlinkError(what, -sent);
    const out: NetlinkMessage[] = [];
    for (;;) {
      const size = receive(this.fd, this.buffer);
      if (size < 0) throw new NetlinkError(what, -size);
      for (const { type: kind, payload: bytes, sequence: answered } of messagesIn(this.buffer, size)) {
        if (answered !== sequence) continue;
        if (kind === NLMSG_DONE) return out;
        if (kind === NLMSG_ERROR) {
          const error = new DataView(bytes.buffer, bytes.byteOffset).getInt32(0, true);
          if (error !== 0) throw new NetlinkError(what, -error);
          return out;
        }
        out.push({ type: kind, payload: bytes.slice() });
      }
    }
  }

  close(): void {
    close(this.fd);
  }
}

/** Messages of one datagram, in place. */
export function* messagesIn(buffer: Uint8Array, size: number): Generator<NetlinkMessage & { sequence: number }> {
  const view = new DataView(buffer.buffer, buffer.byteOffset);
  for (let at = 0; at + HEADER <= size;) {
    const length = view.getUint32(at, true);
    if (length < HEADER || at + length > size) return;
    yield { type: view.getUint16(at + 4, true), sequence: view.getUint32(at + 8, true), payload: buffer.subarray(at + HEADER, at + length) };
    at += (length + 3) & ~3;
  }
}

const GENL_ID_CTRL = 16;
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR_FAMILY_ID = 1;
const CTRL_ATTR_FAMILY_NAME = 2;
const CTRL_ATTR_MCAST_GROUPS = 7;
const CTRL_ATTR_MCAST_GRP_NAME = 1;
const CTRL_ATTR_MCAST_GRP_ID = 2;

/** A generic-netlink family: its number and its multicast groups by name. */
export interface GenericFamily {
  id: number;
  groups: Map<string, number>;
}

/** Payload of a generic-netlink message. */
export function genericPayload(command: number, version: number, attributes: AttributeWriter): Uint8Array {
  const rest = attributes.done();
  const out = new Uint8Array(4 + rest.length);
  out[0] = command;
  out[1] = version;
  out.set(rest, 4);
  return out;
}

/** Looks a family up. Throws {@link NetlinkError} when the kernel has none of that name. */
export function genericFamily(client: NetlinkClient, name: string): GenericFamily {
  const [answer] = client.request(
    `family ${name}`,
    GENL_ID_CTRL,
    genericPayload(CTRL_CMD_GETFAMILY, 1, new AttributeWriter().text(CTRL_ATTR_FAMILY_NAME, name)),
    false,
  );
  const attributes = parseAttributes(answer!.payload.subarray(4));
  const groups = new Map<string, number>();
  for (const group of parseAttributes(attributes.get(CTRL_ATTR_MCAST_GROUPS) ?? new Uint8Array(0)).values()) {
    const fields = parseAttributes(group);
    const label = fields.get(CTRL_ATTR_MCAST_GRP_NAME);
    if (label !== undefined) groups.set(new TextDecoder().decode(label.subarray(0, label.length - 1)), u32(fields, CTRL_ATTR_MCAST_GRP_ID) ?? 0);
  }
  return { id: u16(attributes, CTRL_ATTR_FAMILY_ID) ?? 0, groups };
}

/** Hears a multicast group. Does not keep the process alive. `onLost`: messages were lost because too many came at once; more will come. */
export class NetlinkGroup {
  private readonly poll: DescriptorPoll;
  private readonly fd: number;
  private readonly buffer = new Uint8Array(BUFFER);
  private stopped = false;

  constructor(protocol: number, group: number, onMessage: (message: NetlinkMessage) => void, onLost?: () => void) {
    const fd = netlinkSocket(protocol, false);
    this.fd = fd;
    try {
      setSocketOption(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, new Uint8Array(new Uint32Array([group]).buffer));
    } catch (error) {
      close(fd);
      throw error;
    }
    const take = (size: number): void => {
      for (const message of messagesIn(this.buffer, size)) onMessage(message);
    };
    const lost = (errno: number): boolean => {
      if (errno !== constants.errno.ENOBUFS) return false;
      onLost?.();
      return true;
    };
    this.poll = new DescriptorPoll(fd, this.buffer, {
      read: (size) => {
        take(size);
        while (!this.stopped) {
          const more = receive(this.fd, this.buffer);
          if (more > 0) take(more);
          else if (!lost(-more)) return;
        }
      },
      failed: lost,
    });
    this.poll.unref();
  }

  close(): void {
    this.stopped = true;
    this.poll.close();
  }
}
