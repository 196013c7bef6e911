/**
 * (c) Olteanu and Raiciu: servers draw keys until the token names them, and stamp their id into every timestamp, which
 * clients echo. The balancer keeps nothing: a join goes by its token, everything else by its TSecr.
 */
import { keyMaterial, VERSION_1 } from '@subflow/stack';
import type { KeyMaterial, MptcpVersion } from '@subflow/stack';
import { FLAG } from '@subflow/wire';
import type { Segment } from '@subflow/wire';
import { DROP, joinToken } from './core.ts';
import type { DecisionCore } from './core.ts';
import type { ServerSet } from './servers.ts';
import { StatelessCore } from './stateless.ts';

/** The id is the first octet of a token: one key of 256 fits. */
export function idOfToken(token: number): number {
  return token >>> 24;
}

/** The id is the last octet of a timestamp; the clock counts in the other 24 bits. */
export function idOfTimestamp(value: number): number {
  return value & 0xff;
}

/**
 * Draws keys until the token belongs to a server: 256 tries on average, about a millisecond. Null when `tries` are used up.
 * Fill a pool with them while there is time.
 */
export function keyFor(id: number, random: () => number, version: MptcpVersion = VERSION_1, tries = 8192): KeyMaterial | null {
  for (let i = 0; i < tries; i++) {
    const material = keyMaterial(random() | 0, random() | 0, version);
    if (idOfToken(material.token) === id) return material;
  }
  return null;
}

export class TokenKeysCore implements DecisionCore {
  readonly design = 'keys that name the server';
  readonly entries = 0;
  private readonly first: StatelessCore;
  private servers: ServerSet | null = null;

  constructor(seed = 0) {
    this.first = new StatelessCore('maglev', seed);
  }

  get bytes(): number {
    return this.first.bytes;
  }

  decide(segment: Segment): number {
    const { flags } = segment;
    if ((flags & (FLAG.syn | FLAG.ack)) === FLAG.syn) {
      const token = joinToken(segment);
      return token < 0 ? this.first.decide(segment) : this.named(idOfToken(token), DROP.unknownToken, segment);
    }
    // Without timestamps, or with a zero echo, nothing names the server: the hash is what the SYN went by.
    return segment.hasTimestamps && segment.tsEcr !== 0 ? this.named(idOfTimestamp(segment.tsEcr), 0, segment) : this.first.decide(segment);
  }

  /** The server's own timestamp is in what the error quotes, if it quotes enough. */
  related(segment: Segment): number {
    return segment.hasTimestamps ? this.named(idOfTimestamp(segment.tsVal), 0, segment) : this.first.related(segment);
  }

  setServers(servers: ServerSet): void {
    this.servers = servers;
    this.first.setServers(servers);
  }

  private named(id: number, otherwise: number, segment: Segment): number {
    if (this.servers?.alive(id) === true) return id;
    return otherwise !== 0 ? otherwise : this.first.decide(segment);
  }
}
