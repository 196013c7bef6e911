/** Links of a network namespace as the kernel has them (linux/rtnetlink.h, linux/if_link.h). No privilege needed, and no /sys, which shows one namespace only. */
import { constants } from 'node:os';
import { AttributeWriter, NETLINK_ROUTE, NetlinkClient, NetlinkError, NetlinkGroup, parseAttributes, u32 } from './netlink.ts';

const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const RTNLGRP_LINK = 1;
/** struct ifinfomsg: family, type, index, flags, change. */
const IFINFOMSG = { family: 0, type: 2, index: 4, flags: 8, size: 16 } as const;
const IFLA = { address: 1, name: 3, mtu: 4 } as const;
/** IFNAMSIZ less the zero. */
const LONGEST_NAME = 15;
const IFF_UP = 0x1;
const IFF_RUNNING = 0x40;
const IFF_LOWER_UP = 0x10000;

export interface LinkFacts {
  index: number;
  name: string;
  /** ARPHRD_…: 1 Ethernet, 65534 none. */
  type: number;
  mac: Uint8Array;
  mtu: number;
  /** Set up, and with a carrier: false as soon as it cannot carry packets. */
  connected: boolean;
  /** Up and working (RFC 2863 §3.1.13): true only when it does carry packets, up to a second after the carrier. */
  running: boolean;
}

export interface LinkChange {
  facts: LinkFacts;
  /** It has left the namespace: deleted, or moved to another one. */
  left: boolean;
}

/** Questions about links, to the namespace in which this was made. */
export class LinkClient {
  private readonly client = new NetlinkClient(NETLINK_ROUTE);

  byIndex(index: number): LinkFacts | null {
    return this.ask(index, new AttributeWriter());
  }

  byName(name: string): LinkFacts | null {
    if (name === '' || name.length > LONGEST_NAME) return null;
    return this.ask(0, new AttributeWriter().text(IFLA.name, name));
  }

  close(): void {
    this.client.close();
  }

  private ask(index: number, attributes: AttributeWriter): LinkFacts | null {
    const rest = attributes.done();
    const payload = new Uint8Array(IFINFOMSG.size + rest.length);
    new DataView(payload.buffer).setInt32(IFINFOMSG.index, index, true);
    payload.set(rest, IFINFOMSG.size);
    try {
      const [answer] = this.client.request('link', RTM_GETLINK, payload, false);
      return answer === undefined ? null : factsOf(answer.payload);
    } catch (error) {
      if (error instanceof NetlinkError && error.errno === constants.errno.ENODEV) return null;
      throw error;
    }
  }
}

/** Hears of every link that appears, changes or leaves in the namespace in which this is called. `onLost`: of some it did not. */
export function linkChanges(onChange: (change: LinkChange) => void, onLost: () => void): NetlinkGroup {
  return new NetlinkGroup(
    NETLINK_ROUTE,
    RTNLGRP_LINK,
    ({ type, payload }) => {
      if (type !== RTM_NEWLINK && type !== RTM_DELLINK) return;
      const facts = factsOf(payload);
      if (facts !== null) onChange({ facts, left: type === RTM_DELLINK });
    },
    onLost,
  );
}

function factsOf(payload: Uint8Array): LinkFacts | null {
  // A bridge tells of its ports with the same messages, in a family of its own: a port that leaves the bridge is still there.
  if (payload.length < IFINFOMSG.size || payload[IFINFOMSG.family] !== 0) return null;
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const flags = view.getUint32(IFINFOMSG.flags, true);
  const attributes = parseAttributes(payload.subarray(IFINFOMSG.size));
  const name = attributes.get(IFLA.name);
  return {
    index: view.getInt32(IFINFOMSG.index, true),
    name: name === undefined ? '' : new TextDecoder().decode(name.subarray(0, name.length - 1)),
    type: view.getUint16(IFINFOMSG.type, true),
    mac: (attributes.get(IFLA.address) ?? new Uint8Array(0)).slice(),
    mtu: u32(attributes, IFLA.mtu) ?? 0,
    connected: (flags & IFF_UP) !== 0 && (flags & IFF_LOWER_UP) !== 0,
    running: (flags & IFF_UP) !== 0 && (flags & IFF_RUNNING) !== 0,
  };
}
