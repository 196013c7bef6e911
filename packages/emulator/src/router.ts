/** Routers of an emulated path: they count TTL down, and say so by ICMP as real ones do, well or badly. */
import {
  buildPacket,
  ICMP,
  ICMP_HEADER,
  ICMPV6,
  ipHeader,
  ipSource,
  ipTtl,
  ipVersion,
  IPV4_MIN_HEADER,
  ipv4HeaderLength,
  IPV6_HEADER,
  isMalformed,
  mplsExtension,
  parsePacketValue,
  PROTOCOL,
  setIpTtl,
  viewOf,
  withExtensions,
} from '@subflow/wire';
import type { IcmpError, MplsLabel } from '@subflow/wire';

/** What a router does besides forwarding. */
export interface RouterConfig {
  /** Its address in each family; null: it says nothing in that family. */
  address: Uint8Array | null;
  address6: Uint8Array | null;
  /** Octets quoted behind the IP header; 8 is RFC 792's, Linux quotes as much as 576 (IPv4) and 1,232 octets (IPv6) hold. */
  quote: number;
  /** Never answers. */
  silent: boolean;
  /** Messages a second at most, bursts of as many; 0 is no limit. */
  rateLimit: number;
  /** Label stack told along (RFC 4950), of the tunnel the packet came in. */
  labels: readonly MplsLabel[];
  /** Changes a quote before it is sent: routers that lie. */
  tamper: ((quote: Uint8Array) => Uint8Array) | null;
}

export const PLAIN_ROUTER: RouterConfig = {
  address: null,
  address6: null,
  quote: Number.POSITIVE_INFINITY,
  silent: false,
  rateLimit: 0,
  labels: [],
  tamper: null,
};

/** Largest ICMP message: 576 octets with IPv4 (RFC 1812 §4.3.2.3), 1,280 with IPv6 (RFC 4443 §2.4). */
const MAX_ERROR = { 4: 576, 6: 1280 } as const;

export class Router {
  readonly config: RouterConfig;
  /** Packets whose TTL ended here. */
  expired = 0;
  private tokens: number;
  private refilledAt = 0;

  constructor(config: Partial<RouterConfig>) {
    this.config = { ...PLAIN_ROUTER, ...config };
    this.tokens = this.config.rateLimit;
  }

  /** The packet to pass on, or what goes back to its sender (null: nothing). The packet may be changed in place. */
  route(packet: Uint8Array, now: number): { onward: Uint8Array } | { back: Uint8Array | null } {
    const ttl = ipTtl(packet);
    // A router drops what is not an IP packet (RFC 1812 §5.2.2).
    if (ttl < 0) return { back: null };
    if (ttl <= 1) {
      this.expired++;
      return { back: this.timeExceeded(packet, ipVersion(packet) === 4 ? 4 : 6, now) };
    }
    setIpTtl(packet, ttl - 1);
    return { onward: packet };
  }

  private timeExceeded(packet: Uint8Array, version: 4 | 6, now: number): Uint8Array | null {
    const { config } = this;
    const own = version === 4 ? config.address : config.address6;
    const source = ipSource(packet);
    if (own === null || source === null || config.silent || !answerable(packet) || !this.allowed(now)) return null;
    const headerLength = version === 4 ? ipv4HeaderLength(viewOf(packet), 0) : IPV6_HEADER;
    const overhead = (version === 4 ? IPV4_MIN_HEADER : IPV6_HEADER) + ICMP_HEADER + (config.labels.length > 0 ? 8 + 4 * config.labels.length : 0);
    const whole = packet.slice(0, Math.min(packet.length, headerLength + config.quote, MAX_ERROR[version] - overhead));
    const quote = config.tamper === null ? whole : config.tamper(whole);
    const parts = config.labels.length > 0 ? withExtensions(version, quote, [mplsExtension(config.labels)]) : { quote, rest: 0 };
    const icmp: IcmpError = {
      kind: 'error',
      version,
      type: version === 4 ? ICMP.timeExceeded : ICMPV6.timeExceeded,
      code: 0,
      checksum: 0,
      ...parts,
    };
    return buildPacket(ipHeader(own, source, version === 4 ? PROTOCOL.icmp : PROTOCOL.icmpv6), { icmp });
  }

  private allowed(now: number): boolean {
    const { rateLimit } = this.config;
    if (rateLimit === 0) return true;
    this.tokens = Math.min(rateLimit, this.tokens + ((now - this.refilledAt) * rateLimit) / 1e6);
    this.refilledAt = now;
    if (this.tokens < 1) return false;
    this.tokens--;
    return true;
  }
}

/** No error is sent about an error, nor about a later fragment (RFC 1122 §3.2.2, RFC 4443 §2.4). */
function answerable(packet: Uint8Array): boolean {
  const parsed = parsePacketValue(packet);
  return isMalformed(parsed) ? ipVersion(packet) !== 6 : parsed.icmp?.kind !== 'error' && parsed.ip.fragmentOffset === 0;
}
