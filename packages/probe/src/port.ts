/** What the prober stands on: packets out and in, a clock, chance. Real networks and the emulator both offer it. */
import type { IpAddress } from '@subflow/wire';

/** A source port that is ours until released: the system's own TCP keeps silent about it. */
export interface ReservedPort {
  readonly port: number;
  release(): void;
}

export interface ProbePort {
  /** Packets may come before their checksum was filled in (from a neighbour on the same machine): it says nothing. */
  readonly checksumsUnknown?: boolean;
  /** Microseconds from any fixed start. */
  now(): number;
  /** A fresh random number, 0 to 2^32 - 1. */
  entropy(): number;
  /** Runs `action` at a time, once. Returns what cancels it. */
  at(time: number, action: () => void): () => void;
  /** Address that packets to `target` leave from; null when there is no way to it. */
  source(target: IpAddress): IpAddress | null;
  /** Other addresses of this machine that reach `target`, for second subflows. */
  otherSources(target: IpAddress): IpAddress[];
  /** A source port of ours: a fresh one, or the one asked for. Throws when it is taken. */
  reserve(source: IpAddress, port?: number): ReservedPort;
  /** Sends a whole IP packet; the array is kept. */
  send(packet: Uint8Array): void;
  /** Every IP packet that arrives; the array is the handler's. */
  onPacket(handler: (packet: Uint8Array) => void): void;
  close(): void;
}
