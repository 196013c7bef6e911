/** The prober's port in virtual time: on an end of an emulated path. */
import type { Agenda, Random } from '@subflow/emulator';
import { sameAddress } from '@subflow/wire';
import type { IpAddress } from '@subflow/wire';
import { echoReply } from './echo-reply.ts';
import { ProbeError } from './errors.ts';
import type { ProbePort, ReservedPort } from './port.ts';

const FIRST_PORT = 30_000;

export class VirtualPort implements ProbePort {
  /** Answers echo requests. */
  pings = true;
  private readonly agenda: Agenda;
  private readonly random: Random;
  private readonly addresses: readonly IpAddress[];
  private readonly sink: (packet: Uint8Array) => void;
  private handler: ((packet: Uint8Array) => void) | null = null;
  private readonly taken = new Set<number>();
  private nextPort: number;

  constructor(agenda: Agenda, random: Random, addresses: readonly IpAddress[], sink: (packet: Uint8Array) => void) {
    this.agenda = agenda;
    this.random = random;
    this.addresses = addresses;
    this.sink = sink;
    this.nextPort = FIRST_PORT + random.integer(0, 20_000);
  }

  now(): number {
    return this.agenda.now;
  }

  entropy(): number {
    return this.random.uint32();
  }

  at(time: number, action: () => void): () => void {
    let live = true;
    this.agenda.at(time, () => {
      if (live) action();
    });
    return () => {
      live = false;
    };
  }

  source(target: IpAddress): IpAddress | null {
    return this.addresses.find((one) => one.length === target.length) ?? null;
  }

  otherSources(target: IpAddress): IpAddress[] {
    const first = this.source(target);
    return this.addresses.filter((one) => one.length === target.length && first !== null && !sameAddress(one, first));
  }

  reserve(_source: IpAddress, port?: number): ReservedPort {
    if (port !== undefined && this.taken.has(port)) throw new ProbeError('BAD_TARGET', `port ${port} is in use; expected a free port`);
    let chosen = port ?? this.nextPort;
    while (port === undefined && this.taken.has(chosen)) chosen = chosen >= 65_535 ? FIRST_PORT : chosen + 1;
    if (port === undefined) this.nextPort = chosen >= 65_535 ? FIRST_PORT : chosen + 1;
    this.taken.add(chosen);
    return { port: chosen, release: () => this.taken.delete(chosen) };
  }

  send(packet: Uint8Array): void {
    // Flows keep what they have sent; links change packets in place.
    this.sink(packet.slice());
  }

  onPacket(handler: (packet: Uint8Array) => void): void {
    this.handler = handler;
  }

  /** A packet arrives from the path. */
  deliver(packet: Uint8Array): void {
    const reply = this.pings ? echoReply(packet, this.addresses) : null;
    if (reply === null) this.handler?.(packet);
    else this.sink(reply);
  }

  close(): void {
    this.handler = null;
  }
}

/**
 * Turns the agenda until a promise is settled: after each action what waits for it gets its turn. Throws when nothing is
 * left to do, or at `limit`.
 */
export async function inVirtualTime<T>(agenda: Agenda, work: Promise<T>, limit = Number.POSITIVE_INFINITY): Promise<T> {
  let settled = false;
  const mark = (): void => {
    settled = true;
  };
  work.then(mark, mark);
  await turn();
  while (!settled) {
    const due = agenda.next;
    if (!agenda.step(limit)) throw new ProbeError('BAD_STATE', `nothing is left to do at ${agenda.now} µs, but the probe has not ended`);
    // All that is due at one instant, then whoever waits.
    while (agenda.next === due) agenda.step(limit);
    await turn();
  }
  return work;
}

/** Lets every promise that is settled be seen. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
