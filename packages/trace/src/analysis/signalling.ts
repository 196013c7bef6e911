/** What Multipath TCP's options mean for the connection that they belong to (RFC 8684 §3, RFC 6824 §3). */
import { addAddressHmac, joinHmac, versionOf } from '@subflow/stack';
import {
  ADD_ADDR_FLAG,
  CAPABLE_FLAG,
  DSS_FLAG,
  FLAG,
  formatAddress,
  isMalformed,
  JOIN_FLAG,
  mptcpSubtype,
  parseMptcpOption,
  RESET_FLAG,
  SUBTYPE,
} from '@subflow/wire';
import type { AddAddr, MpCapable, MpJoinAck, MpJoinSyn, MpJoinSynAck, Segment, U64 } from '@subflow/wire';
import { Connection } from './connection.ts';
import type { Subflow } from './connection.ts';
import type { Side, TraceEvent } from './events.ts';
import { MptcpHalf } from './mptcp-half.ts';

/** Data sequence numbers of one connection lie this close together, seen from any of its subflows. */
const SAME_STREAM = 64 * 1024 * 1024;
const MOST_TOKENS = 1 << 17;

/** Finds and makes connections. One for each {@link Analyzer}. */
export class Connections {
  readonly open: Set<Connection> = new Set();
  count = 0;
  private readonly tokens: Map<number, { connection: Connection; side: Side }> = new Map();
  private readonly emit: ((event: TraceEvent) => void) | null;

  constructor(emit: ((event: TraceEvent) => void) | null) {
    this.emit = emit;
  }

  create(): Connection {
    const connection = new Connection(this.count++, this.emit);
    this.open.add(connection);
    return connection;
  }

  forget(connection: Connection): void {
    this.open.delete(connection);
    for (const { token } of connection.sides) if (token !== null && this.tokens.get(token)?.connection === connection) this.tokens.delete(token);
  }

  /** Takes the Multipath TCP options of a segment, DSS left out. */
  options(subflow: Subflow, side: Side, s: Segment, time: number, packet: number): void {
    for (let i = 0; i < s.otherMptcpCount; i++) {
      const at = s.otherMptcp[i]!;
      const option = parseMptcpOption(s.view, at, s.view.getUint8(at + 1));
      if (isMalformed(option)) continue;
      subflow.options[mptcpSubtype(s.view, at)]!++;
      // Seen before, on the other side of an address translation.
      if (subflow.copyOf !== null) continue;
      subflow.mptcp ??= [new MptcpHalf(), new MptcpHalf()];
      switch (option.subtype) {
        case 'capable':
          this.capable(subflow, side, option, s, time, packet);
          break;
        case 'join-syn':
          if ((s.flags & (FLAG.syn | FLAG.ack)) === FLAG.syn) this.joinSyn(subflow, option, time, packet);
          break;
        case 'join-synack':
          joinSynAck(subflow, option, time, packet);
          break;
        case 'join-ack':
          joinAck(subflow, option, time, packet);
          break;
        default:
          break;
      }
      const { connection } = subflow;
      if (connection === null) continue;
      const by = subflow.sideOf(side);
      switch (option.subtype) {
        case 'add-addr':
          addAddress(connection, subflow, by, option, time, packet);
          break;
        case 'remove-addr':
          for (const id of option.addressIds) {
            const known = connection.sides[by].addresses.get(id);
            if (known !== undefined) known.removed = true;
          }
          connection.note(time, packet, subflow.number, by, 'note', { type: 'address-removed', addressIds: option.addressIds });
          break;
        case 'prio': {
          const backup = (option.flags & JOIN_FLAG.backup) !== 0;
          // Without an address identifier the option speaks of the subflow that it came on (RFC 6824 §3.3.8).
          const target =
            option.addressId === null ? subflow : (connection.subflows.find((one) => one.addressIds[one.sideOf(by)] === option.addressId) ?? subflow);
          target.backup[target.sideOf(by)] = backup;
          connection.note(time, packet, target.number, by, 'note', { type: 'subflow-priority', backup, addressId: option.addressId });
          break;
        }
        case 'fail': {
          const { data } = connection.sides[by === 0 ? 1 : 0];
          connection.note(time, packet, subflow.number, by, 'error', {
            type: 'mp-fail',
            position: data.known ? data.position64(option.dsn.high, option.dsn.low) : null,
          });
          break;
        }
        case 'fastclose':
          connection.note(time, packet, subflow.number, by, 'note', { type: 'fast-close' });
          break;
        default:
          break;
      }
    }
  }

  /** MP_TCPRST of a segment; null without it. */
  resetReason(s: Segment): { reason: number; transient: boolean } | null {
    for (let i = 0; i < s.otherMptcpCount; i++) {
      const at = s.otherMptcp[i]!;
      if (mptcpSubtype(s.view, at) !== SUBTYPE.tcprst || s.view.getUint8(at + 1) !== 4) continue;
      return { reason: s.view.getUint8(at + 3), transient: (s.view.getUint8(at + 2) & RESET_FLAG.transient) !== 0 };
    }
    return null;
  }

  /** A subflow with DSS whose handshake was not seen: it belongs where its data sequence numbers belong, or begins a connection. */
  adopt(subflow: Subflow, side: Side, s: Segment, time: number, packet: number): Connection {
    if ((s.dssFlags & DSS_FLAG.mapping) !== 0) {
      const wide = (s.dssFlags & DSS_FLAG.dsn64) !== 0;
      for (const connection of this.open) {
        if (connection.whole && connection.sides[0].key !== null) continue;
        for (const flipped of [false, true]) {
          const { data } = connection.sides[flipped ? (side === 0 ? 1 : 0) : side];
          if (!data.known || data.bytes === 0) continue;
          const position = wide && data.wide ? data.position64(s.dsnHigh, s.dsnLow) : data.position32(s.dsnLow, data.next);
          if (Math.abs(position - data.next) > SAME_STREAM || (!wide && !sharesEnd(connection, subflow))) continue;
          connection.add(subflow, flipped);
          subflow.kind = 'join';
          return connection;
        }
      }
    }
    const connection = this.create();
    connection.add(subflow, false);
    subflow.kind = 'initial';
    connection.established = true;
    connection.note(time, packet, subflow.number, side, 'note', {
      type: 'subflow-created',
      join: false,
      backup: false,
      addressId: 0,
      version: null,
      source: subflow.sourceText,
      destination: subflow.destinationText,
    });
    return connection;
  }

  private capable(subflow: Subflow, side: Side, option: MpCapable, s: Segment, time: number, packet: number): void {
    const syn = (s.flags & FLAG.syn) !== 0;
    const ack = (s.flags & FLAG.ack) !== 0;
    if (subflow.kind === 'unknown' || subflow.kind === 'plain') {
      subflow.kind = 'initial';
      const connection = this.create();
      connection.whole = syn && !ack;
      connection.add(subflow, false);
      connection.note(time, packet, 1, 0, 'note', {
        type: 'subflow-created',
        join: false,
        backup: false,
        addressId: 0,
        version: option.version,
        source: subflow.sourceText,
        destination: subflow.destinationText,
      });
    }
    const { connection } = subflow;
    if (connection === null || subflow.kind !== 'initial') return;
    const by = subflow.sideOf(side);
    const version = option.version === 0 ? 0 : 1;
    if (syn && !ack) {
      connection.offeredVersion = option.version;
      connection.sides[by].flags = option.flags;
      if (version === 0 && option.senderKey !== null) this.learn(connection, by, option.senderKey, 0, subflow, time, packet);
      return;
    }
    if (syn) {
      connection.version = version;
      connection.sides[by].flags = option.flags;
      if (option.senderKey !== null) this.learn(connection, by, option.senderKey, version, subflow, time, packet);
      return;
    }
    connection.version ??= version;
    // In data of version 1 only the initiator says this (RFC 8684 §3.1); its flags count when the SYN was not seen.
    if (connection.sides[by].flags < 0) connection.sides[by].flags = option.flags;
    if (option.senderKey !== null) this.learn(connection, by, option.senderKey, connection.version, subflow, time, packet);
    if (option.receiverKey !== null) this.learn(connection, by === 0 ? 1 : 0, option.receiverKey, connection.version, subflow, time, packet);
    if (!connection.established) {
      connection.established = true;
      connection.note(time, packet, subflow.number, by, 'note', { type: 'connection-established', version: connection.version, checksum: connection.checksum });
    }
    if (option.dataLength !== null) subflow.mptcp![side].mappings.learn(1, 1, option.dataLength);
  }

  private learn(connection: Connection, side: Side, key: U64, version: 0 | 1, subflow: Subflow, time: number, packet: number): void {
    const state = connection.sides[side];
    if (state.key === null) {
      connection.learnKey(side, key, version);
      const token = state.token!;
      const other = this.tokens.get(token);
      if (other !== undefined && other.connection !== connection) {
        if (sameKey(other.connection.sides[other.side].key, key)) {
          this.translated(connection, subflow, other.connection, time, packet);
          return;
        }
        // A join was seen before the handshake that explains it (merged captures, lost packets).
        if (other.connection.sides[other.side].key === null) this.merge(other.connection, connection, other.side !== side);
      }
      if (this.tokens.size < MOST_TOKENS) this.tokens.set(token, { connection, side });
    } else if (!sameKey(state.key, key)) {
      connection.note(time, packet, subflow.number, side, 'error', { type: 'key-wrong', found: hex(key), expected: hex(state.key) });
    }
  }

  private joinSyn(subflow: Subflow, option: MpJoinSyn, time: number, packet: number): void {
    subflow.token = option.token | 0;
    subflow.nonces[0] = option.nonce | 0;
    subflow.addressIds[0] = option.addressId;
    subflow.backup[0] = (option.flags & JOIN_FLAG.backup) !== 0;
    if (subflow.connection !== null) return;
    subflow.kind = 'join';
    let known = this.tokens.get(subflow.token);
    if (known === undefined) {
      const connection = this.create();
      connection.sides[1].token = subflow.token;
      connection.established = true;
      known = { connection, side: 1 };
      if (this.tokens.size < MOST_TOKENS) this.tokens.set(subflow.token, known);
    }
    const { connection, side } = known;
    const twin = connection.subflows.find((one) => one.kind === 'join' && one.token === subflow.token && one.nonces[0] === subflow.nonces[0]);
    if (twin !== undefined) {
      subflow.copyOf = twin;
      subflow.connection = connection;
      connection.note(time, packet, twin.number, twin.sideOf(0), 'note', {
        type: 'translated',
        source: subflow.sourceText,
        destination: subflow.destinationText,
      });
      return;
    }
    // The token is the receiver's: when that is the connection's opener, the other side joins (RFC 8684 §3.2).
    connection.add(subflow, side === 0);
    connection.note(time, packet, subflow.number, subflow.sideOf(0), 'note', {
      type: 'subflow-created',
      join: true,
      backup: subflow.backup[0],
      addressId: option.addressId,
      version: null,
      source: subflow.sourceText,
      destination: subflow.destinationText,
    });
    if (connection.sides[side].key === null)
      connection.note(time, packet, subflow.number, subflow.sideOf(0), 'note', { type: 'token-unknown', token: subflow.token >>> 0 });
  }

  /** The same connection seen on both sides of an address translation: its second appearance is a copy. */
  private translated(connection: Connection, subflow: Subflow, original: Connection, time: number, packet: number): void {
    const first = original.subflows[0];
    if (first === undefined || subflow.copyOf !== null) return;
    subflow.copyOf = first;
    subflow.connection = original;
    connection.closed = true;
    this.open.delete(connection);
    original.note(time, packet, first.number, 0, 'note', { type: 'translated', source: subflow.sourceText, destination: subflow.destinationText });
  }

  private merge(from: Connection, into: Connection, flipped: boolean): void {
    for (const subflow of from.subflows) into.add(subflow, subflow.flipped !== flipped);
    from.closed = true;
    this.open.delete(from);
  }
}

function joinSynAck(subflow: Subflow, option: MpJoinSynAck, time: number, packet: number): void {
  subflow.nonces[1] = option.nonce | 0;
  subflow.addressIds[1] = option.addressId;
  subflow.backup[1] = (option.flags & JOIN_FLAG.backup) !== 0;
  checkJoin(subflow, 1, option.hmac, time, packet);
}

function joinAck(subflow: Subflow, option: MpJoinAck, time: number, packet: number): void {
  // It is repeated until the fourth ACK has come (RFC 8684 §3.2): once is enough.
  if (subflow.hmacRight < 2) checkJoin(subflow, 0, option.hmac, time, packet);
}

/** The HMAC that half `side` of a join sent. */
function checkJoin(subflow: Subflow, side: Side, hmac: Uint8Array, time: number, packet: number): void {
  const { connection } = subflow;
  if (connection === null) return;
  const mine = connection.sides[subflow.sideOf(side)].key;
  const other = connection.sides[subflow.sideOf(side === 0 ? 1 : 0)].key;
  if (mine === null || other === null || connection.version === null || Number.isNaN(subflow.synTime)) return;
  const expected = joinHmac(mine, other, subflow.nonces[side], subflow.nonces[side === 0 ? 1 : 0], versionOf(connection.version));
  if (hmac.every((byte, i) => byte === expected[i])) {
    subflow.hmacRight++;
    return;
  }
  subflow.hmacWrong++;
  connection.note(time, packet, subflow.number, subflow.sideOf(side), 'error', {
    type: 'hmac-wrong',
    option: side === 0 ? 'MP_JOIN ACK' : 'MP_JOIN SYN+ACK',
  });
}

function addAddress(connection: Connection, subflow: Subflow, by: Side, option: AddAddr, time: number, packet: number): void {
  if (option.version === 1 && (option.flags & ADD_ADDR_FLAG.echo) !== 0) {
    connection.note(time, packet, subflow.number, by, 'note', { type: 'address-echoed', addressId: option.addressId });
    return;
  }
  const mine = connection.sides[by].key;
  const other = connection.sides[by === 0 ? 1 : 0].key;
  let authentic: boolean | null = null;
  if (option.hmac !== null && mine !== null && other !== null) {
    const expected = addAddressHmac(mine, other, option.addressId, option.address, option.port ?? 0);
    authentic = option.hmac.every((byte, i) => byte === expected[i]);
  }
  const address = formatAddress(option.address);
  connection.sides[by].addresses.set(option.addressId, { addressId: option.addressId, address, port: option.port, removed: false });
  connection.note(time, packet, subflow.number, by, 'note', { type: 'address-announced', addressId: option.addressId, address, port: option.port, authentic });
  if (authentic === false) connection.note(time, packet, subflow.number, by, 'error', { type: 'hmac-wrong', option: 'ADD_ADDR' });
}

function sharesEnd(connection: Connection, subflow: Subflow): boolean {
  return connection.subflows.some(
    (one) =>
      one.sourcePort === subflow.sourcePort ||
      one.destinationPort === subflow.destinationPort ||
      one.source.every((word, i) => word === subflow.source[i]) ||
      one.destination.every((word, i) => word === subflow.destination[i]),
  );
}

function sameKey(a: U64 | null, b: U64): boolean {
  return a !== null && (a.high | 0) === (b.high | 0) && (a.low | 0) === (b.low | 0);
}

function hex(key: U64): string {
  return (key.high >>> 0).toString(16).padStart(8, '0') + (key.low >>> 0).toString(16).padStart(8, '0');
}

/** Whether MP_CAPABLE asks for checksums (RFC 8684 §3.1, flag A). */
export function asksForChecksum(flags: number): boolean {
  return flags >= 0 && (flags & CAPABLE_FLAG.checksum) !== 0;
}
