/** One subflow (a TCP connection, Multipath or not): both its directions, and what its handshake said. */
import { formatAddress } from '@subflow/wire';
import type { Segment } from '@subflow/wire';
import { Half } from './half.ts';
import { Mappings } from './mappings.ts';
import type { Connection } from './connection.ts';
import type { Side } from './events.ts';

export type SubflowKind = 'plain' | 'initial' | 'join' | 'unknown';

/** Multipath TCP on one direction of a subflow. */
export class MptcpHalf {
  readonly mappings: Mappings = new Mappings();
  /** New bytes of the data stream, and bytes that another subflow had carried. */
  dataBytes = 0;
  reinjectedBytes = 0;
  dss = 0;
  /** Payload that no mapping covers. */
  unmapped = 0;
  checksums = 0;
  checksumFailures = 0;
  /** DSS checksum under way: the mapping's beginning and end, the next byte expected, the partial sum. */
  sumStart = -1;
  sumEnd = -1;
  sumNext = -1;
  sum = 0;
  sumExpected = -1;
  /** Without the SYN: position of a byte less its subflow sequence number. */
  ssnShift = Number.NaN;
}

export class Subflow {
  /** As Wireshark's tcp.stream counts. */
  readonly stream: number;
  readonly ipVersion: number;
  /** Initiator and responder: addresses as words, ports. */
  readonly source: [number, number, number, number];
  readonly destination: [number, number, number, number];
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** The flow table's forward direction is that of the initiator. */
  readonly initiatorForward: boolean;
  readonly halves: readonly [Half, Half] = [new Half(), new Half()];
  mptcp: readonly [MptcpHalf, MptcpHalf] | null = null;
  kind: SubflowKind = 'unknown';
  connection: Connection | null = null;
  /** Number within its connection, from 1. */
  number = 0;
  /** The initiator of the subflow is the connection's responder. */
  flipped = false;
  firstPacket = 0;
  firstTime = 0;
  lastTime = 0;
  packets = 0;
  /** Interface or file that each direction was first seen on, -1 before. */
  readonly interfaces: [number, number] = [-1, -1];
  /** When it was last seen there. */
  readonly interfaceTimes: [number, number] = [0, 0];
  /** Packets of other interfaces that had been seen already. */
  copies = 0;

  synTime = Number.NaN;
  synAckTime = Number.NaN;
  ackTime = Number.NaN;
  established = false;
  closed = false;
  /** MP_JOIN: address identifiers, nonces and the token asked for. */
  readonly addressIds: [number, number] = [0, 0];
  readonly nonces: [number, number] = [0, 0];
  token = 0;
  /** Backup flag that each side gave, at the handshake or with MP_PRIO. */
  readonly backup: [boolean, boolean] = [false, false];
  /** MP_JOIN HMACs that were right and wrong. */
  hmacRight = 0;
  hmacWrong = 0;
  /** Options by subtype, both directions. */
  readonly options: Uint32Array = new Uint32Array(16);
  /** A copy, seen behind an address translation. */
  copyOf: Subflow | null = null;

  constructor(stream: number, s: Segment, reversed: boolean, forward: boolean) {
    const a: [number, number, number, number] = [s.source0, s.source1, s.source2, s.source3];
    const b: [number, number, number, number] = [s.destination0, s.destination1, s.destination2, s.destination3];
    this.stream = stream;
    this.ipVersion = s.ipVersion;
    this.source = reversed ? b : a;
    this.destination = reversed ? a : b;
    this.sourcePort = reversed ? s.destinationPort : s.sourcePort;
    this.destinationPort = reversed ? s.sourcePort : s.destinationPort;
    this.initiatorForward = forward !== reversed;
  }

  /** The connection's side that half `side` of this subflow belongs to. */
  sideOf(side: Side): Side {
    return this.flipped ? ((1 - side) as Side) : side;
  }

  get sourceAddress(): Uint8Array {
    return addressBytes(this.source, this.ipVersion);
  }

  get destinationAddress(): Uint8Array {
    return addressBytes(this.destination, this.ipVersion);
  }

  get sourceText(): string {
    return endpointText(this.source, this.sourcePort, this.ipVersion);
  }

  get destinationText(): string {
    return endpointText(this.destination, this.destinationPort, this.ipVersion);
  }
}

export function addressBytes(words: readonly number[], version: number): Uint8Array {
  const bytes = new Uint8Array(version === 4 ? 4 : 16);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < bytes.length / 4; i++) view.setInt32(4 * i, words[i]!);
  return bytes;
}

function endpointText(words: readonly number[], port: number, version: number): string {
  const address = formatAddress(addressBytes(words, version));
  return version === 4 ? `${address}:${port}` : `[${address}]:${port}`;
}
