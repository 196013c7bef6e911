/** The prober's port in virtual time: on an end of an emulated path. */
import type { Agenda, Random } from '@subflow/emulator';
import type { IpAddress } from '@subflow/wire';
import { echoReply } from './echo-reply.ts';
import { ProbeError } from './errors.ts';
import { OwnAddresses } from './own-addresses.ts';
import type { ProbePort, ReservedPort } from './port.ts';

export class VirtualPort implements ProbePort {
  /** Answers echo requests. */
  pings = true;
  private readonly agenda: Agenda;
  private readonly random: Random;
  private readonly own: OwnAddresses;
  private readonly sink: (packet: Uint8Array) => void;
  private handler: ((packet: Uint8Array) => void) | null = null;

  constructor(agenda: Agenda, random: Random, addresses: readonly IpAddress[], sink: (packet: Uint8Array) => void) {
    this.agenda = agenda;
    this.random = random;
    this.own = new OwnAddresses(addresses, random.integer(0, 20_000));
    this.sink = sink;
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
    return this.own.source(target);
  }

  otherSources(target: IpAddress): IpAddress[] {
    return this.own.otherSources(target);
  }

  reserve(_source: IpAddress, port?: number): ReservedPort {
    return this.own.reserve(port);
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
    const reply = this.pings ? echoReply(packet, this.own.addresses) : null;
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
