/** A path of links with routers between them: client, hop 1, hop 2, …, server. A box may stand on any link. */
import { Agenda } from './agenda.ts';
import { LinkDirection, PERFECT_LINK } from './link.ts';
import type { LinkConfig } from './link.ts';
import { attachMiddlebox } from './middlebox/box.ts';
import type { Middlebox, MiddleboxFactory } from './middlebox/box.ts';
import type { Random } from './random.ts';
import { Router } from './router.ts';
import type { RouterConfig } from './router.ts';

export interface ChainConfig {
  routers: readonly Partial<RouterConfig>[];
  /** Every link, each direction. */
  link?: Partial<LinkConfig>;
}

/** What takes packets off an end of the chain; it keeps the array it is given. */
export type ChainEnd = (packet: Uint8Array, now: number) => void;

export class Chain {
  readonly routers: readonly Router[];
  /** Link `i` joins hop `i` to hop `i + 1`; hop 0 is the client, the one past the last router the server. */
  readonly links: readonly { forward: LinkDirection; backward: LinkDirection }[];
  client: ChainEnd | null = null;
  server: ChainEnd | null = null;
  private readonly agenda: Agenda;

  constructor(agenda: Agenda, random: Random, config: ChainConfig) {
    this.agenda = agenda;
    this.routers = config.routers.map((router) => new Router(router));
    const link = { ...PERFECT_LINK, ...config.link };
    this.links = Array.from({ length: this.routers.length + 1 }, (_, i) => ({
      forward: new LinkDirection(agenda, random.fork(`forward${i}`), link, (packet, now) => this.forwardTo(i + 1, packet, now)),
      backward: new LinkDirection(agenda, random.fork(`backward${i}`), link, (packet, now) => this.backwardTo(i, packet, now)),
    }));
  }

  /** Puts a box on link `i`: between hop `i` and hop `i + 1`. */
  attach(factory: MiddleboxFactory, i: number): Middlebox {
    const link = this.links[i]!;
    return attachMiddlebox(factory, this.agenda, link.forward, link.backward);
  }

  /** A packet of the client's; the array is kept. */
  fromClient(packet: Uint8Array, now: number = this.agenda.now): void {
    this.links[0]!.forward.send(packet, now);
  }

  fromServer(packet: Uint8Array, now: number = this.agenda.now): void {
    this.links.at(-1)!.backward.send(packet, now);
  }

  private forwardTo(hop: number, packet: Uint8Array, now: number): void {
    const router = this.routers[hop - 1];
    if (router === undefined) {
      this.server?.(packet, now);
      return;
    }
    const result = router.route(packet, now);
    if ('onward' in result) this.links[hop]!.forward.send(result.onward, now);
    else if (result.back !== null) this.links[hop - 1]!.backward.send(result.back, now);
  }

  private backwardTo(hop: number, packet: Uint8Array, now: number): void {
    const router = this.routers[hop - 1];
    if (router === undefined) {
      this.client?.(packet, now);
      return;
    }
    const result = router.route(packet, now);
    if ('onward' in result) this.links[hop - 1]!.backward.send(result.onward, now);
    else if (result.back !== null) this.links[hop]!.forward.send(result.back, now);
  }
}
