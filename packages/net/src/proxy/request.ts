/** What the front ends of a proxy (SOCKS, HTTP CONNECT, Convert, a fixed target) have in common. */
import { timingSafeEqual, createHash } from 'node:crypto';
import type { Socket } from '../socket.ts';

/** A client's wish, and how to answer it in its protocol. */
export interface ProxyRequest {
  protocol: 'socks' | 'http' | 'convert' | 'forward';
  host: string;
  port: number;
  /** Whether the client wants Multipath TCP beyond; null: the proxy decides. */
  multipath?: boolean;
  /** The connection is there: tell the client. */
  granted(upstream: Socket): void;
  /** It is not. The client's connection is ended, not reset, so that the answer arrives. */
  refused(error: NodeJS.ErrnoException): void;
}

/** User names and passwords. */
export class ProxyCredentials {
  private readonly users = new Map<string, Buffer>();

  constructor(users: Readonly<Record<string, string>>) {
    for (const [user, password] of Object.entries(users)) this.users.set(user, digest(password));
  }

  check(user: string, password: string): boolean {
    // The comparison takes as long for unknown users.
    return timingSafeEqual(this.users.get(user) ?? UNKNOWN, digest(password)) && this.users.has(user);
  }
}

const UNKNOWN = Buffer.alloc(32);

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
