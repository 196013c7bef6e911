/** Numbers of the IP layer by name: field offsets, IP protocols (IPv6's next-header values), extension headers, EtherTypes. Those of TCP are in `tcp.ts`. */

/** Length of an IPv4 header without options, octets (RFC 791 §3.1). */
export const IPV4_MIN_HEADER = 20;
/** Field offsets of the IPv4 header (RFC 791 §3.1). */
export const IPV4 = {
  versionIhl: 0,
  trafficClass: 1,
  totalLength: 2,
  identification: 4,
  fragment: 6,
  ttl: 8,
  protocol: 9,
  checksum: 10,
  source: 12,
  destination: 16,
  options: 20,
} as const;
/** Bits of the 16-bit word at {@link IPV4}.fragment; `offset` counts units of 8 octets (RFC 791 §3.1). */
export const IPV4_FRAGMENT = { dontFragment: 0x4000, moreFragments: 0x2000, offset: 0x1fff } as const;

/** Length of the IPv6 header without extension headers, octets (RFC 8200 §3). */
export const IPV6_HEADER = 40;
/** Field offsets of the IPv6 header (RFC 8200 §3). */
export const IPV6 = { versionClassFlow: 0, payloadLength: 4, nextHeader: 6, hopLimit: 7, source: 8, destination: 24 } as const;
/** Next-header values of extension headers (RFC 8200 §4, RFC 4302, RFC 6275). */
export const EXTENSION = { hopByHop: 0, routing: 43, fragment: 44, authentication: 51, noNext: 59, destination: 60, mobility: 135 } as const;

/** The ECN field, the low two bits of the traffic class (RFC 3168 §5). */
export const ECN = { mask: 3, notCapable: 0, capable1: 1, capable0: 2, congestion: 3 } as const;

/** IP protocol numbers of what may follow the IP headers (IANA "Protocol Numbers"; for IPv6 extension headers see {@link EXTENSION}). */
export const PROTOCOL = {
  icmp: 1,
  /** IPv4 in IP (RFC 2003). */
  ipv4: 4,
  tcp: 6,
  udp: 17,
  /** IPv6 in IP (RFC 4213, RFC 2473). */
  ipv6: 41,
  gre: 47,
  icmpv6: 58,
} as const;

/** EtherTypes, as they stand in Ethernet II, Linux cooked and GRE headers (IANA "IEEE 802 Numbers"). */
export const ETHERTYPE = {
  ipv4: 0x0800,
  arp: 0x0806,
  /** Transparent Ethernet bridging: a whole frame follows, as in GRE (RFC 1701). */
  ethernet: 0x6558,
  vlan: 0x8100,
  ipv6: 0x86dd,
  mpls: 0x8847,
  pppoe: 0x8864,
  qinq: 0x88a8,
  qinqOld: 0x9100,
} as const;
