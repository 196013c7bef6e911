/** The kernel's path manager by generic netlink: endpoints, limits, commands for single connections, events (linux/mptcp_pm.h). */
import { formatAddress } from '@subflow/wire';
import {
  AttributeWriter,
  be16,
  genericFamily,
  genericPayload,
  NetlinkClient,
  NetlinkGroup,
  NETLINK_GENERIC,
  parseAttributes,
  u16,
  u32,
  u8,
} from './netlink.ts';
import type { Attributes, GenericFamily, NetlinkMessage } from './netlink.ts';

const FAMILY = 'mptcp_pm';
const EVENTS = 'mptcp_pm_events';
const VERSION = 1;
const COMMAND = { addAddr: 1, delAddr: 2, getAddr: 3, setLimits: 5, getLimits: 6, setFlags: 7, announce: 8, remove: 9, create: 10, destroy: 11 } as const;
const ATTR = { addr: 1, receiveAddAddrs: 2, subflows: 3, token: 4, localId: 5, addrRemote: 6 } as const;
const ADDR = { family: 1, id: 2, addr4: 3, addr6: 4, port: 5, flags: 6, interfaceIndex: 7 } as const;
const AF_INET = 2;
const AF_INET6 = 10;

export const ENDPOINT_FLAG = { signal: 1, subflow: 2, backup: 4, fullmesh: 8, implicit: 16, laminar: 32 } as const;

/** An endpoint of the kernel's path manager, `ip mptcp endpoint`. */
export interface KernelEndpoint {
  id: number;
  address: Uint8Array;
  port: number;
  flags: number;
  interfaceIndex: number;
}

export interface KernelLimits {
  addressesAccepted: number;
  subflows: number;
}

/** What the kernel's path manager tells; numbers are those of the kernel's events. */
export interface KernelEvent {
  type:
    | 'created'
    | 'established'
    | 'closed'
    | 'announced'
    | 'removed'
    | 'subflow-established'
    | 'subflow-closed'
    | 'subflow-priority'
    | 'listener-created'
    | 'listener-closed';
  token: number;
  local: string | null;
  localPort: number | null;
  localId: number | null;
  remote: string | null;
  remotePort: number | null;
  remoteId: number | null;
  backup: boolean;
  interfaceIndex: number | null;
  /** errno with which a subflow ended, and the reason of its MP_TCPRST. */
  error: number | null;
  resetReason: number | null;
  serverSide: boolean;
}

const EVENT_NAMES: Record<number, KernelEvent['type']> = {
  1: 'created',
  2: 'established',
  3: 'closed',
  6: 'announced',
  7: 'removed',
  10: 'subflow-established',
  11: 'subflow-closed',
  13: 'subflow-priority',
  15: 'listener-created',
  16: 'listener-closed',
};

export class MptcpNetlink {
  private readonly client: NetlinkClient;
  private readonly family: GenericFamily;

  /** Throws {@link LinkError} when the kernel has no Multipath TCP. */
  constructor() {
    this.client = new NetlinkClient(NETLINK_GENERIC);
    try {
      this.family = genericFamily(this.client, FAMILY);
    } catch (error) {
      this.client.close();
      throw error;
    }
  }

  endpoints(): KernelEndpoint[] {
    return this.ask('endpoints', COMMAND.getAddr, new AttributeWriter(), true).map((message) =>
      endpointOf(parseAttributes(parseAttributes(message.payload.subarray(4)).get(ATTR.addr) ?? new Uint8Array(0))),
    );
  }

  addEndpoint(address: Uint8Array, flags: number, options: { id?: number; port?: number; interfaceIndex?: number } = {}): void {
    this.ask('add endpoint', COMMAND.addAddr, new AttributeWriter().nested(ATTR.addr, addressAttributes(address, { flags, ...options })), false);
  }

  removeEndpoint(id: number, address: Uint8Array | null = null): void {
    const attributes = new AttributeWriter();
    const inner = address === null ? new AttributeWriter().u8(ADDR.id, id) : addressAttributes(address, { id });
    this.ask('remove endpoint', COMMAND.delAddr, attributes.nested(ATTR.addr, inner), false);
  }

  /** Sets or clears the backup flag of an endpoint; counts for open connections too (MP_PRIO). */
  setEndpointBackup(endpoint: KernelEndpoint, backup: boolean): void {
    const flags = backup ? endpoint.flags | ENDPOINT_FLAG.backup : endpoint.flags & ~ENDPOINT_FLAG.backup;
    this.ask('set flags', COMMAND.setFlags, new AttributeWriter().nested(ATTR.addr, addressAttributes(endpoint.address, { id: endpoint.id, flags })), false);
  }

  limits(): KernelLimits {
    const [answer] = this.ask('limits', COMMAND.getLimits, new AttributeWriter(), false);
    const attributes = parseAttributes(answer!.payload.subarray(4));
    return { addressesAccepted: u32(attributes, ATTR.receiveAddAddrs) ?? 0, subflows: u32(attributes, ATTR.subflows) ?? 0 };
  }

  setLimits(limits: KernelLimits): void {
    this.ask(
      'set limits',
      COMMAND.setLimits,
      new AttributeWriter().u32(ATTR.receiveAddAddrs, limits.addressesAccepted).u32(ATTR.subflows, limits.subflows),
      false,
    );
  }

  /** Opens a subflow of one connection. Only where the path manager of userspace is chosen (net.mptcp.path_manager=userspace). */
  createSubflow(token: number, local: Uint8Array, localId: number, remote: Uint8Array, remotePort: number): void {
    this.ask(
      'create subflow',
      COMMAND.create,
      new AttributeWriter()
        .u32(ATTR.token, token)
        .nested(ATTR.addr, addressAttributes(local, { id: localId }))
        .nested(ATTR.addrRemote, addressAttributes(remote, { port: remotePort })),
      false,
    );
  }

  /** Announces an address on one connection; userspace path manager only. */
  announce(token: number, address: Uint8Array, id: number, port: number): void {
    this.ask(
      'announce',
      COMMAND.announce,
      new AttributeWriter()
        .u32(ATTR.token, token)
        .nested(ATTR.addr, addressAttributes(address, { id, flags: ENDPOINT_FLAG.signal, ...(port === 0 ? {} : { port }) })),
      false,
    );
  }

  close(): void {
    this.client.close();
  }

  /** Hears events of every connection of the namespace. Throws {@link LinkError} `NO_PRIVILEGE` without CAP_NET_ADMIN. */
  events(listener: (event: KernelEvent) => void): NetlinkGroup {
    return new NetlinkGroup(NETLINK_GENERIC, this.family.groups.get(EVENTS) ?? 0, (message) => {
      const event = eventOf(message);
      if (event !== null) listener(event);
    });
  }

  private ask(what: string, command: number, attributes: AttributeWriter, dump: boolean): NetlinkMessage[] {
    return this.client.request(what, this.family.id, genericPayload(command, VERSION, attributes), dump);
  }
}

function addressAttributes(address: Uint8Array, fields: { id?: number; flags?: number; port?: number; interfaceIndex?: number }): AttributeWriter {
  const out = new AttributeWriter().u16(ADDR.family, address.length === 4 ? AF_INET : AF_INET6);
  if (fields.id !== undefined) out.u8(ADDR.id, fields.id);
  out.raw(address.length === 4 ? ADDR.addr4 : ADDR.addr6, address);
  if (fields.port !== undefined) out.u16(ADDR.port, fields.port);
  if (fields.flags !== undefined) out.u32(ADDR.flags, fields.flags);
  if (fields.interfaceIndex !== undefined) out.u32(ADDR.interfaceIndex, fields.interfaceIndex);
  return out;
}

function endpointOf(attributes: Attributes): KernelEndpoint {
  return {
    id: u8(attributes, ADDR.id) ?? 0,
    address: (attributes.get(ADDR.addr4) ?? attributes.get(ADDR.addr6) ?? new Uint8Array(4)).slice(),
    port: u16(attributes, ADDR.port) ?? 0,
    flags: u32(attributes, ADDR.flags) ?? 0,
    interfaceIndex: u32(attributes, ADDR.interfaceIndex) ?? 0,
  };
}

const EVENT = {
  token: 1,
  localId: 3,
  remoteId: 4,
  source4: 5,
  source6: 6,
  destination4: 7,
  destination6: 8,
  sourcePort: 9,
  destinationPort: 10,
  backup: 11,
  error: 12,
  interfaceIndex: 15,
  resetReason: 16,
  serverSide: 18,
} as const;

function eventOf(message: NetlinkMessage): KernelEvent | null {
  const type = EVENT_NAMES[message.payload[0] ?? 0];
  if (type === undefined) return null;
  const attributes = parseAttributes(message.payload.subarray(4));
  const address = (four: number, six: number): string | null => {
    const bytes = attributes.get(four) ?? attributes.get(six);
    return bytes === undefined ? null : formatAddress(bytes.slice());
  };
  return {
    type,
    token: u32(attributes, EVENT.token) ?? 0,
    local: address(EVENT.source4, EVENT.source6),
    localPort: be16(attributes, EVENT.sourcePort),
    localId: u8(attributes, EVENT.localId),
    remote: address(EVENT.destination4, EVENT.destination6),
    remotePort: be16(attributes, EVENT.destinationPort),
    remoteId: u8(attributes, EVENT.remoteId),
    backup: (u8(attributes, EVENT.backup) ?? 0) !== 0,
    interfaceIndex: u32(attributes, EVENT.interfaceIndex),
    error: u8(attributes, EVENT.error),
    resetReason: u32(attributes, EVENT.resetReason),
    serverSide: (u8(attributes, EVENT.serverSide) ?? 0) !== 0,
  };
}
