/** The ends of a script's packets: names and addresses, and the pairs that have spoken. */
import { parseAddress, sameAddress } from '@subflow/wire';
import type { Packet } from '@subflow/wire';
import { ScriptError } from './script.ts';
import type { EndSpec, Expression, PacketSpec } from './script.ts';

/** Addresses of the host and of the script's side: `.1` and `.2` of each. */
const NETWORKS = ['192.0.2', '198.51.100', '203.0.113'] as const;
export const INTERFACES = NETWORKS.length;
export const PORT = 8080;
const FIRST_REMOTE_PORT = 1000;

/** One pair of ends; numbers of the host and of the script's side. */
export interface Flow {
  local: Uint8Array;
  localPort: number;
  remote: Uint8Array;
  remotePort: number;
  hostIss: number | null;
  hostNonce: number;
  scriptNonce: number;
  hostTimestamp: number;
}

export class Ends {
  readonly flows: Flow[] = [];
  private readonly family: 4 | 6;
  /** The host opens the connection: `caddr` is its own. */
  private readonly isClient: boolean;

  constructor(family: 4 | 6, isClient: boolean) {
    this.family = family;
    this.isClient = isClient;
  }

  local(i: number): Uint8Array {
    return parseAddress(this.family === 6 ? `2001:db8:${i}::1` : `${NETWORKS[i]}.1`);
  }

  remote(i: number): Uint8Array {
    return parseAddress(this.family === 6 ? `2001:db8:${i}::2` : `${NETWORKS[i]}.2`);
  }

  /** saddr0, caddr1 … or an address as it is. Throws {@link ScriptError}. */
  resolve({ text, place }: Expression & { kind: 'address' }): Uint8Array {
    const match = /^(s|c)addr([0-2])?$/.exec(text);
    if (match !== null) {
      const i = Number(match[2] ?? 0);
      return (match[1] === 'c') === this.isClient ? this.local(i) : this.remote(i);
    }
    let address: Uint8Array;
    try {
      address = parseAddress(text);
    } catch {
      throw new ScriptError('SCRIPT_SYNTAX', place, `"${text}" is not an address; expected saddr0 to saddr2, caddr0 to caddr2, or one as it is written`);
    }
    if ((address.length === 4) !== (this.family === 4))
      throw new ScriptError('SCRIPT_SYNTAX', place, `"${text}" is of the other family; expected IPv${this.family} (--ip_version)`);
    return address;
  }

  /** The flow that a packet to the host belongs to; a SYN makes a new one. Null: there is none. */
  incoming(spec: PacketSpec): Flow | null {
    const remote = spec.ends === null ? null : this.end(spec.ends.from);
    const local = spec.ends === null ? null : this.end(spec.ends.to);
    const known = this.flows.filter((flow) => fits(remote, flow.remote, flow.remotePort) && fits(local, flow.local, flow.localPort));
    // Without ends the first flow is meant, with them the latest that fits.
    const found = spec.ends === null ? known[0] : known[known.length - 1];
    if (found !== undefined) return found;
    // Whatever else a SYN carries (ECE and CWR: RFC 3168 §6.1.1), it opens.
    if (!spec.flags.includes('S') || spec.flags.includes('.')) return null;
    return this.add({
      local: local?.address ?? this.local(0),
      localPort: local?.port ?? PORT,
      remote: remote?.address ?? this.remote(0),
      remotePort: remote?.port ?? FIRST_REMOTE_PORT + this.flows.length,
    });
  }

  /** The flow of a packet of the host. */
  outgoing(packet: Packet): Flow {
    const tcp = packet.tcp!;
    const ends = { local: packet.ip.source, localPort: tcp.sourcePort, remote: packet.ip.destination, remotePort: tcp.destinationPort };
    return (
      this.flows.find(
        (flow) =>
          flow.localPort === ends.localPort &&
          flow.remotePort === ends.remotePort &&
          sameAddress(flow.local, ends.local) &&
          sameAddress(flow.remote, ends.remote),
      ) ?? this.add(ends)
    );
  }

  /** Whether a script's packet of the host is one of this flow. */
  means(spec: PacketSpec, flow: Flow): boolean {
    if (spec.ends === null) return flow === this.flows[0];
    return fits(this.end(spec.ends.from), flow.local, flow.localPort) && fits(this.end(spec.ends.to), flow.remote, flow.remotePort);
  }

  private add(ends: Pick<Flow, 'local' | 'localPort' | 'remote' | 'remotePort'>): Flow {
    const flow = { ...ends, hostIss: null, hostNonce: 0, scriptNonce: 0x5eed0000 + this.flows.length, hostTimestamp: 0 };
    this.flows.push(flow);
    return flow;
  }

  private end(spec: EndSpec): { address: Uint8Array; port: number | null } {
    return { address: this.resolve(spec.address), port: spec.port };
  }
}

function fits(end: { address: Uint8Array; port: number | null } | null, address: Uint8Array, port: number): boolean {
  return end === null || (sameAddress(end.address, address) && (end.port === null || end.port === port));
}
