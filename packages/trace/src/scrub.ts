/**
 * A capture that may be handed on: addresses, payload and keys are replaced, everything else stays. What follows from the
 * keys (tokens, HMACs, data sequence numbers) follows from the new ones, checksums are right again: the scrubbed capture
 * tells the same story.
 */
import { addAddressHmac, joinHmac, keyMaterial, versionOf } from '@subflow/stack';
import type { KeyMaterial } from '@subflow/stack';
import {
  DSS_FLAG,
  dssPseudoHeader,
  finish,
  FRAME,
  LINKTYPE,
  ipv4Checksum,
  IPV4,
  IPV6,
  mptcpSubtype,
  OPTION,
  optionLengthAt,
  PROTOCOL,
  pseudoHeader,
  SUBTYPE,
  sum,
  TCP,
} from '@subflow/wire';
import type { U64 } from '@subflow/wire';
import type { Analyzer } from './analysis/analyzer.ts';
import type { Connection, Subflow } from './analysis/connection.ts';
import type { Side } from './analysis/events.ts';

/** A keyed one-way function: bytes to at least 16 bytes. */
export type Keyed = (input: Uint8Array) => Uint8Array;

interface NewKeys {
  material: [KeyMaterial | null, KeyMaterial | null];
  /** Added to data sequence numbers whose key is not known. */
  shift: [bigint, bigint];
}

/** Options whose values say nothing about who somebody is. */
const KEPT_OPTIONS: ReadonlySet<number> = new Set([OPTION.nop, OPTION.mss, OPTION.windowScale, OPTION.sackPermitted, OPTION.sack, OPTION.timestamps]);
const MASK64 = 0xffffffffffffffffn;

export class Scrubber {
  /** Frames that were left out, because what they hold cannot be made anonymous. */
  dropped = 0;
  written = 0;
  private readonly keyed: Keyed;
  private readonly v4: Map<number, number> = new Map();
  private readonly v6: Map<string, Uint8Array> = new Map();
  private readonly connections: WeakMap<Connection, NewKeys> = new WeakMap();

  constructor(keyed: Keyed) {
    this.keyed = keyed;
  }

  /** The frame that the analyzer has just taken, scrubbed; null when it is left out. Its link layer becomes raw IP ({@link LINKTYPE}). */
  frame(analyzer: Analyzer): { bytes: Uint8Array; originalLength: number } | null {
    const { layers } = analyzer;
    const s = layers.segment;
    // Tunnels, fragments, other protocols and headers that were cut would need rules of their own.
    if (analyzer.held !== FRAME.tcp || layers.ipCount !== 1 || analyzer.reassembled || s.payloadOffset > layers.captured) {
      this.dropped++;
      return null;
    }
    const start = s.ipOffset;
    const end = Math.min(layers.captured, s.endOffset);
    const bytes = layers.bytes.slice(start, end);
    const view = new DataView(bytes.buffer);
    const tcp = s.tcpOffset - start;
    const payload = s.payloadOffset - start;
    bytes.fill(0, Math.min(payload, bytes.length));
    this.addresses(bytes, view, s.ipVersion);
    this.options(analyzer, view, bytes, tcp + TCP.options, payload);
    const length = s.endOffset - s.tcpOffset;
    view.setUint16(tcp + TCP.checksum, 0);
    // The payload is zero, whether it was captured or not: it adds nothing.
    view.setUint16(tcp + TCP.checksum, finish(sum(bytes, tcp, payload - tcp, pseudoHeader(bytes, 0, PROTOCOL.tcp, length))));
    if (s.ipVersion === 4) view.setUint16(IPV4.checksum, ipv4Checksum(bytes, 0, tcp));
    this.written++;
    return { bytes, originalLength: s.endOffset - start };
  }

  /** What the frames of {@link frame} begin with. */
  readonly linkType: number = LINKTYPE.raw;

  private addresses(bytes: Uint8Array, view: DataView, version: number): void {
    if (version === 4) {
      for (const at of [IPV4.source, IPV4.destination]) view.setInt32(at, this.address4(view.getInt32(at)));
      return;
    }
    for (const at of [IPV6.source, IPV6.destination]) bytes.set(this.address6(bytes.slice(at, at + 16)), at);
  }

  /** Addresses are numbered as they come, in 10.0.0.0/8: the first bits say nothing about the old ones. */
  private address4(address: number): number {
    let made = this.v4.get(address);
    if (made === undefined) {
      made = 0x0a000000 | ((this.v4.size + 1) & 0xffffff) | 0;
      this.v4.set(address, made);
    }
    return made;
  }

  /** In 2001:db8::/32 (RFC 3849). */
  private address6(address: Uint8Array): Uint8Array {
    const key = String(address);
    let made = this.v6.get(key);
    if (made === undefined) {
      made = new Uint8Array(16);
      made.set([0x20, 0x01, 0x0d, 0xb8]);
      new DataView(made.buffer).setUint32(12, this.v6.size + 1);
      this.v6.set(key, made);
    }
    return made;
  }

  private options(analyzer: Analyzer, view: DataView, bytes: Uint8Array, from: number, end: number): void {
    const { subflow, side } = analyzer;
    let at = from;
    for (let size: number; (size = optionLengthAt(view, at, end)) > 0; at += size) {
      const kind = bytes[at]!;
      if (kind === OPTION.mptcp && subflow !== null && subflow.connection !== null) this.mptcp(subflow, subflow.connection, side, view, bytes, at, size);
      // Cookies, digests and whatever we do not know may say who somebody is.
      else if (!KEPT_OPTIONS.has(kind)) bytes.fill(0, at + 2, at + size);
    }
    // Padding may say as much.
    if (at < end && bytes[at] === OPTION.end) bytes.fill(0, at, end);
  }

  private keysOf(connection: Connection): NewKeys {
    let keys = this.connections.get(connection);
    if (keys === undefined) {
      const seed = this.keyed(new Uint8Array(new Float64Array([connection.index]).buffer));
      const random = new DataView(seed.buffer, seed.byteOffset);
      keys = { material: [null, null], shift: [random.getBigUint64(0), random.getBigUint64(8)] };
      this.connections.set(connection, keys);
    }
    for (const side of [0, 1] as const) {
      const { key } = connection.sides[side];
      if (key === null || keys.material[side] !== null) continue;
      const fresh = this.keyed(bytesOf(key));
      const random = new DataView(fresh.buffer, fresh.byteOffset);
      const made = keyMaterial(random.getInt32(0), random.getInt32(4), versionOf(connection.version ?? 0));
      keys.material[side] = made;
      const { data } = connection.sides[side];
      if (data.fromKey) keys.shift[side] = idsn(made.idsnHigh, made.idsnLow) - idsn(data.originHigh, data.originLow);
    }
    return keys;
  }

  private mptcp(subflow: Subflow, connection: Connection, side: Side, view: DataView, bytes: Uint8Array, at: number, size: number): void {
    const keys = this.keysOf(connection);
    const by = subflow.sideOf(side);
    const other: Side = by === 0 ? 1 : 0;
    switch (mptcpSubtype(view, at)) {
      case SUBTYPE.capable:
        if (size >= 12) this.putKey(keys, by, view, bytes, at + 4);
        if (size >= 20) this.putKey(keys, other, view, bytes, at + 12);
        // A mapping of zeros: its checksum is that of its pseudo-header.
        if (size === 24) view.setUint16(at + 22, this.dssChecksum(keys, by, 1n, 1, view.getUint16(at + 20), connection));
        break;
      case SUBTYPE.join:
        this.join(subflow, connection, keys, by, view, bytes, at, size);
        break;
      case SUBTYPE.dss:
        this.dss(keys, by, other, view, at, size);
        break;
      case SUBTYPE.addAddr:
        this.addAddress(connection, keys, by, view, bytes, at, size);
        break;
      case SUBTYPE.fail:
        if (size === 12) view.setBigUint64(at + 4, (view.getBigUint64(at + 4) + keys.shift[other]) & MASK64);
        break;
      case SUBTYPE.fastclose:
        if (size === 12) this.putKey(keys, other, view, bytes, at + 4);
        break;
      case SUBTYPE.removeAddr:
      case SUBTYPE.prio:
      case SUBTYPE.tcprst:
        break;
      default:
        bytes.fill(0, at + 3, at + size);
    }
  }

  private putKey(keys: NewKeys, side: Side, view: DataView, bytes: Uint8Array, at: number): void {
    const made = keys.material[side];
    if (made === null) {
      bytes.set(this.keyed(bytes.slice(at, at + 8)).subarray(0, 8), at);
      return;
    }
    view.setInt32(at, made.high);
    view.setInt32(at + 4, made.low);
  }

  private join(subflow: Subflow, connection: Connection, keys: NewKeys, by: Side, view: DataView, bytes: Uint8Array, at: number, size: number): void {
    if (size === 12) {
      const made = keys.material[by === 0 ? 1 : 0];
      if (made !== null) view.setInt32(at + 4, made.token);
      else bytes.set(this.keyed(bytes.slice(at + 4, at + 8)).subarray(0, 4), at + 4);
      return;
    }
    if (size !== 16 && size !== 24) {
      bytes.fill(0, at + 3, at + size);
      return;
    }
    const length = size === 16 ? 8 : 20;
    const mine = keys.material[by];
    const theirs = keys.material[by === 0 ? 1 : 0];
    const half: Side = size === 16 ? 1 : 0;
    const hmac =
      mine === null || theirs === null || connection.version === null
        ? this.keyed(bytes.slice(at + 4, at + 4 + length))
        : joinHmac(mine, theirs, subflow.nonces[half], subflow.nonces[half === 0 ? 1 : 0], versionOf(connection.version));
    bytes.fill(0, at + 4, at + 4 + length);
    bytes.set(hmac.subarray(0, length), at + 4);
  }

  private dss(keys: NewKeys, by: Side, other: Side, view: DataView, at: number, size: number): void {
    const flags = view.getUint8(at + 3);
    let next = at + 4;
    const move = (wide: boolean, shift: bigint): bigint => {
      if (!wide) {
        const value = (BigInt(view.getUint32(next)) + shift) & 0xffffffffn;
        view.setUint32(next, Number(value));
        next += 4;
        return value;
      }
      const value = (view.getBigUint64(next) + shift) & MASK64;
      view.setBigUint64(next, value);
      next += 8;
      return value;
    };
    const need =
      ((flags & DSS_FLAG.dataAck) === 0 ? 0 : (flags & DSS_FLAG.dataAck64) === 0 ? 4 : 8) +
      ((flags & DSS_FLAG.mapping) === 0 ? 0 : (flags & DSS_FLAG.dsn64) === 0 ? 10 : 14);
    if (size < 4 + need) return;
    if ((flags & DSS_FLAG.dataAck) !== 0) move((flags & DSS_FLAG.dataAck64) !== 0, keys.shift[other]);
    if ((flags & DSS_FLAG.mapping) === 0) return;
    const dsn = move((flags & DSS_FLAG.dsn64) !== 0, keys.shift[by]);
    if (next + 8 > at + size) return;
    const sumOf = dssPseudoHeader(Number((dsn >> 32n) & 0xffffffffn) | 0, Number(dsn & 0xffffffffn) | 0, view.getInt32(next), view.getUint16(next + 4));
    view.setUint16(next + 6, finish(sumOf));
  }

  private dssChecksum(keys: NewKeys, side: Side, position: bigint, ssn: number, length: number, connection: Connection): number {
    const { data } = connection.sides[side];
    const dsn = (idsn(data.originHigh, data.originLow) + position + keys.shift[side]) & MASK64;
    return finish(dssPseudoHeader(Number(dsn >> 32n) | 0, Number(dsn & 0xffffffffn) | 0, ssn, length));
  }

  private addAddress(connection: Connection, keys: NewKeys, by: Side, view: DataView, bytes: Uint8Array, at: number, size: number): void {
    const v6 = size >= 20;
    const length = v6 ? 16 : 4;
    if (size < 4 + length) return;
    if (v6) bytes.set(this.address6(bytes.slice(at + 4, at + 20)), at + 4);
    else view.setInt32(at + 4, this.address4(view.getInt32(at + 4)));
    const rest = size - 4 - length;
    if (rest < 8) return;
    const port = rest === 10 ? view.getUint16(at + 4 + length) : 0;
    const mine = keys.material[by];
    const other = keys.material[by === 0 ? 1 : 0];
    const hmac =
      mine === null || other === null || connection.version !== 1
        ? this.keyed(bytes.slice(at, at + size))
        : addAddressHmac(mine, other, bytes[at + 3]!, bytes.slice(at + 4, at + 4 + length), port);
    bytes.set(hmac.subarray(0, 8), at + size - 8);
  }
}

function bytesOf(key: U64): Uint8Array {
  const out = new Uint8Array(8);
  const view = new DataView(out.buffer);
  view.setInt32(0, key.high | 0);
  view.setInt32(4, key.low | 0);
  return out;
}

function idsn(high: number, low: number): bigint {
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}
