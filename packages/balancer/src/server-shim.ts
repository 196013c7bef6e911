/** The server's side of tunnels and of Beamer, in front of a host of ours: the same as bpf/shim.c does for a kernel. */
import { formatAddress, PARSED, parsePacket, Segment } from '@subflow/wire';
import { daisyChain } from './shim.ts';
import type { LocalConnections } from './shim.ts';
import { decapsulate, encapsulate } from './tunnel.ts';

/** What becomes of a packet that a server received. */
export type ShimOutcome =
  /** For this host: out of its tunnel, or as it came when it was in none. */
  | { kind: 'here'; packet: Uint8Array }
  /** To be sent to another server. */
  | { kind: 'onward'; packet: Uint8Array }
  | { kind: 'drop'; reason: 'foreign' | 'malformed' };

export class ServerShim {
  taken = 0;
  chained = 0;
  foreign = 0;
  private readonly host: LocalConnections;
  private readonly balancers: ReadonlySet<string>;
  private readonly segment = new Segment();

  /** `balancers`: where tunnels may begin. */
  constructor(host: LocalConnections, balancers: readonly Uint8Array[]) {
    this.host = host;
    this.balancers = new Set(balancers.map(formatAddress));
  }

  /** Takes any bytes. */
  receive(packet: Uint8Array): ShimOutcome {
    const tunnel = decapsulate(packet);
    if (tunnel === null) return { kind: 'here', packet };
    if (!this.balancers.has(formatAddress(tunnel.source))) {
      this.foreign++;
      return { kind: 'drop', reason: 'foreign' };
    }
    const inner = tunnel.packet;
    if (tunnel.previous !== null) {
      const view = new DataView(inner.buffer, inner.byteOffset, inner.length);
      const parsed = parsePacket(view, inner, 0, inner.length, false, this.segment);
      if (parsed === PARSED.tcp && daisyChain(this.segment, 1, this.host) !== 'here') {
        this.chained++;
        // The next one must not ask further: one previous server is all there is.
        return { kind: 'onward', packet: encapsulate(inner, { ...tunnel, destination: tunnel.previous, previous: null, seconds: 0 }) };
      }
      if (parsed !== PARSED.tcp && parsed !== PARSED.fragment && parsed !== PARSED.icmp && parsed !== PARSED.icmpv6)
        return { kind: 'drop', reason: 'malformed' };
    }
    this.taken++;
    return { kind: 'here', packet: inner };
  }
}
