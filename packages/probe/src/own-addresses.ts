/** Addresses and ports that nobody else on the machine knows: source selection and reservation for ports that own their addresses. */
import { sameAddress } from '@subflow/wire';
import type { IpAddress } from '@subflow/wire';
import { ProbeError } from './errors.ts';
import type { ReservedPort } from './port.ts';

/** RFC 6056 §3.2's range, and below it what old systems use. */
const FIRST_PORT = 30_000;
const PORTS = 35_000;

export class OwnAddresses {
  readonly addresses: readonly IpAddress[];
  private readonly taken = new Set<number>();
  private next: number;

  /** `start`: any number; where the ports begin. */
  constructor(addresses: readonly IpAddress[], start: number) {
    this.addresses = addresses;
    this.next = start % PORTS;
  }

  source(target: IpAddress): IpAddress | null {
    return this.addresses.find((one) => one.length === target.length) ?? null;
  }

  otherSources(target: IpAddress): IpAddress[] {
    const first = this.source(target);
    return this.addresses.filter((one) => one.length === target.length && first !== null && !sameAddress(one, first));
  }

  /** Throws {@link ProbeError} `BAD_TARGET` when the port asked for, or every port, is in use. */
  reserve(port?: number): ReservedPort {
    if (port !== undefined && this.taken.has(port)) throw new ProbeError('BAD_TARGET', `port ${port} is in use; expected a free port`);
    if (this.taken.size >= PORTS) throw new ProbeError('BAD_TARGET', `all ${PORTS} ports are in use; expected fewer flows at the same time`);
    let chosen = port ?? FIRST_PORT + (this.next++ % PORTS);
    while (port === undefined && this.taken.has(chosen)) chosen = FIRST_PORT + (this.next++ % PORTS);
    this.taken.add(chosen);
    return { port: chosen, release: () => this.taken.delete(chosen) };
  }
}
