/**
 * What a host remembers about destinations: the version they speak (RFC 8684 §3.1), whether SYNs with MP_CAPABLE vanish
 * on the way, their Fast Open cookie (RFC 7413 §4.1.3). Bounded: the oldest entry makes room.
 */
import { formatEndpoint } from '@subflow/wire';
import type { VersionNumber } from '../mptcp/version.ts';

const MAX_ENTRIES = 1024;
/** A black hole is remembered twice as long each time it is met again, up to this many doublings. */
const MAX_DOUBLINGS = 6;

interface Entry {
  version: VersionNumber | null;
  versionUntil: number;
  /** No Multipath TCP before this time. */
  blackHoleUntil: number;
  blackHoles: number;
  cookie: Uint8Array | null;
  mss: number;
}

export class PeerMemory {
  private readonly entries = new Map<string, Entry>();

  get size(): number {
    return this.entries.size;
  }

  /** The version this destination answered lately, or null. */
  version(remote: Uint8Array, port: number, now: number): VersionNumber | null {
    const entry = this.entries.get(formatEndpoint(remote, port));
    return entry !== undefined && entry.version !== null && entry.versionUntil > now ? entry.version : null;
  }

  rememberVersion(remote: Uint8Array, port: number, version: VersionNumber, until: number): void {
    const entry = this.entry(remote, port);
    entry.version = version;
    entry.versionUntil = until;
  }

  isBlackHole(remote: Uint8Array, port: number, now: number): boolean {
    const entry = this.entries.get(formatEndpoint(remote, port));
    return entry !== undefined && entry.blackHoleUntil > now;
  }

  /** SYNs with MP_CAPABLE vanished and one without got through. */
  rememberBlackHole(remote: Uint8Array, port: number, now: number, timeout: number): void {
    const entry = this.entry(remote, port);
    entry.blackHoleUntil = now + timeout * 2 ** Math.min(entry.blackHoles, MAX_DOUBLINGS);
    entry.blackHoles++;
  }

  /** Multipath TCP got through. */
  forgetBlackHole(remote: Uint8Array, port: number): void {
    const entry = this.entries.get(formatEndpoint(remote, port));
    if (entry === undefined) return;
    entry.blackHoleUntil = 0;
    entry.blackHoles = 0;
  }

  cookie(remote: Uint8Array, port: number): { cookie: Uint8Array; mss: number } | null {
    const entry = this.entries.get(formatEndpoint(remote, port));
    return entry === undefined || entry.cookie === null ? null : { cookie: entry.cookie, mss: entry.mss };
  }

  /** `cookie` null forgets it. */
  rememberCookie(remote: Uint8Array, port: number, cookie: Uint8Array | null, mss: number): void {
    if (cookie === null && !this.entries.has(formatEndpoint(remote, port))) return;
    const entry = this.entry(remote, port);
    entry.cookie = cookie;
    entry.mss = mss;
  }

  private entry(remote: Uint8Array, port: number): Entry {
    const key = formatEndpoint(remote, port);
    let entry = this.entries.get(key);
    if (entry !== undefined) return entry;
    if (this.entries.size >= MAX_ENTRIES) this.entries.delete(this.entries.keys().next().value!);
    entry = { version: null, versionUntil: 0, blackHoleUntil: 0, blackHoles: 0, cookie: null, mss: 536 };
    this.entries.set(key, entry);
    return entry;
  }
}
