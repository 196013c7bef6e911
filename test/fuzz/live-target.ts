/**
 * A live connection: the input is a program of small steps, each a segment that would be right at this point of the
 * conversation, or one that is wrong in one respect, or a call of the application, or time passing. Nothing may throw,
 * loop, or be left behind.
 */
import type { Connection, Host, Interface, KeyMaterial, TransmitSlot } from '@subflow/stack';
import type { MptcpOption, Segment, TcpHeader, TcpOption } from '@subflow/wire';
import type { Instrumented } from './instrument.ts';
import type { Target } from './wire-target.ts';

const LOCAL = Uint8Array.of(192, 0, 2, 1);
const REMOTE = Uint8Array.of(192, 0, 2, 2);
const SECOND = 1_000_000;
const MAX_STEPS = 64;
const MAX_PACKETS = 4000;
/** Bytes one program may make the host hold. */
const MAX_HELD = 8 << 20;

/** One subflow of the hand-made client. */
interface Flow {
  port: number;
  seq: number;
  base: number;
  ack: number;
  ssn: number;
  nonce: number;
  serverNonce: number;
  joined: boolean;
}

export function liveTarget(loaded: Instrumented): Target {
  const { stack, wire } = loaded;
  const payload = new Uint8Array(3000).map((_, i) => i * 7);
  const slot: TransmitSlot = new stack.TransmitSlot();
  const segment: Segment = new wire.Segment();
  const out = new Uint8Array(70_000);
  const outView = new DataView(out.buffer);
  const header = wire.ipHeader(REMOTE, LOCAL, wire.PROTOCOL.tcp);
  const PROGRAM_KEYS: [KeyMaterial, KeyMaterial] = [stack.keyMaterial(0x10000000, 1, stack.VERSION_0), stack.keyMaterial(0x10000000, 1, stack.VERSION_1)];

  return (program, length) => {
    let entropy = 12345;
    const host: Host = new stack.Host({
      entropy: () => (entropy = (Math.imul(entropy, 1664525) + 1013904223) >>> 0),
      eventLimit: 500,
      tcp: {
        timeWait: SECOND,
        maxRetransmits: 4,
        synAckRetries: 2,
        keepaliveIdle: 20 * SECOND,
        keepaliveInterval: 5 * SECOND,
        keepaliveProbes: 2,
        finWait2: 5 * SECOND,
      },
      mptcp: {
        checksum: length > 0 && (program[0]! & 1) !== 0,
        synCookies: length > 0 && (program[0]! & 6) === 6 ? 'always' : 'when-full',
        fastclose: length > 0 && (program[0]! & 8) !== 0 ? 'ack' : 'reset',
        closeTimeout: 10 * SECOND,
        failTimeout: 10 * SECOND,
        maxDataRetransmits: 4,
        denyJoinInitial: length > 0 && (program[0]! & 16) !== 0,
      },
    });
    const through: Interface = host.addInterface({ name: 'if0', mtu: 1500, addresses: [{ address: LOCAL, bits: 24 }] });
    host.listen({ port: 80, fastOpen: true, backlog: 16 });
    let now = SECOND;
    let version: 0 | 1 = 1;
    let packets = 0;
    let dataNext = 1;
    let last: Uint8Array | null = null;
    const flows: Flow[] = [0, 1, 2].map((i) => ({ port: 1000 + i, seq: 0, base: 0, ack: 0, ssn: 1, nonce: 77 + i, serverNonce: 0, joined: false }));
    const connection = (): Connection | null => host.connections.values().next().value ?? null;

    const drain = (): void => {
      while (host.pollTransmit(slot, now)) {
        if (++packets > MAX_PACKETS) throw new Error(`more than ${MAX_PACKETS} packets`);
        const size = slot.copyTo(out, 0);
        slot.clear();
        if (wire.parsePacket(outView, out, 0, size, true, segment) !== wire.PARSED.tcp) throw new Error('the host sent a packet that does not parse');
        const flow = flows[segment.destinationPort - 1000];
        if (flow === undefined) continue;
        const end = (segment.seq + segment.payloadLength + ((segment.flags & 3) !== 0 ? 1 : 0)) | 0;
        if ((segment.flags & 2) !== 0) {
          flow.ack = end;
          for (let i = 0; i < segment.otherMptcpCount; i++) {
            const option = wire.parseMptcpOption(outView, segment.otherMptcp[i]!, out[segment.otherMptcp[i]! + 1]!);
            if (!wire.isMalformed(option) && option.subtype === 'join-synack') flow.serverNonce = option.nonce;
          }
        } else if (((end - flow.ack) | 0) > 0) {
          flow.ack = end;
        }
      }
      while (host.pollEvent() !== null);
    };
    const advance = (microseconds: number): void => {
      const until = now + microseconds;
      for (let i = 0; ; i++) {
        const at = host.pollTimeout();
        if (at > until) break;
        if (i > 20_000) throw new Error('timers fire without end');
        now = Math.max(now, at);
        host.handleTimeout(now);
        drain();
      }
      now = until;
    };
    const inject = (bytes: Uint8Array, valid: boolean): void => {
      last = bytes;
      host.handlePacket(through, new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), bytes, 0, bytes.length, valid, now);
      drain();
    };
    const send = (flow: Flow, flags: number, options: MptcpOption[], size: number, more: Partial<TcpHeader> = {}, extra: TcpOption[] = []): void => {
      const list: TcpOption[] = [...extra, ...options.map((option): TcpOption => ({ kind: 'mptcp', option }))];
      let room = 40;
      const fitting = list.filter((option) => (room -= wire.tcpOptionLength(option)) >= 0);
      const tcp: TcpHeader = {
        sourcePort: flow.port,
        destinationPort: 80,
        seq: flow.seq >>> 0,
        ack: (flags & 16) !== 0 ? flow.ack >>> 0 : 0,
        headerLength: 20,
        reserved: 0,
        flags,
        window: 60000,
        checksum: 0,
        urgent: 0,
        ...more,
        options: fitting,
      };
      inject(wire.buildPacket(header, { tcp, payload: payload.subarray(0, size) }), true);
    };
    const keyOf = (): KeyMaterial => PROGRAM_KEYS[version];
    const serverKey = (): { high: number; low: number } => connection()?.local ?? { high: 1, low: 2 };
    const dss = (flow: Flow, size: number, change: number): MptcpOption => {
      const key = keyOf();
      const fin = change === 6;
      const position = change === 1 ? dataNext + 100_000_000 : change === 2 ? dataNext - 5 : change === 7 ? dataNext + 3000 : dataNext;
      const total = change === 3 ? 0 : change === 4 ? size + 50 : change === 5 ? Math.max(1, size - 3) : size + (fin ? 1 : 0);
      const low = (key.idsnLow >>> 0) + position;
      return {
        subtype: 'dss',
        flags: 0x0c | (fin ? 0x10 : 0) | 3,
        dataAck: dataAck(change),
        dsn: { high: (key.idsnHigh + Math.floor(low / 0x100000000)) | 0, low: low | 0 },
        ssn: change === 8 ? flow.ssn + 1 : flow.ssn,
        dataLength: total & 0xffff,
        checksum: connection()?.checksum === true ? (change === 9 ? 1 : checksumOf(flow, position, total, size)) : change === 9 ? 7 : null,
      };
    };
    const checksumOf = (flow: Flow, position: number, total: number, size: number): number => {
      const key = keyOf();
      const low = (key.idsnLow >>> 0) + position;
      const high = (key.idsnHigh + Math.floor(low / 0x100000000)) | 0;
      return wire.finish(wire.dssPseudoHeader(high, low | 0, flow.ssn, total) + wire.sum(payload, 0, size));
    };
    const dataAck = (change: number): { high: number; low: number } => {
      const own = connection();
      if (own === null || own.local === null) return { high: 0, low: 0 };
      const low = (own.local.idsnLow >>> 0) + own.dataNxt + (change === 10 ? 70_000 : 0);
      return { high: (own.local.idsnHigh + Math.floor(low / 0x100000000)) | 0, low: low | 0 };
    };

    for (let at = 1, steps = 0; at + 1 < length && steps < MAX_STEPS; at += 2, steps++) {
      const op = program[at]!;
      const arg = program[at + 1]!;
      const flow = flows[op >>> 6 === 3 ? 0 : op >>> 6]!;
      const own = connection();
      const size = 1 + (arg >>> 2) * 8;
      switch (op & 31) {
        case 0:
        case 1: {
          flow.base = flow.seq = Math.imul(arg + 1, 0x01010101);
          flow.ssn = 1;
          const capable: MptcpOption = {
            subtype: 'capable',
            version: arg & 1,
            flags: (arg & 2) !== 0 ? 0x81 : 1,
            senderKey: null,
            receiverKey: null,
            dataLength: null,
            checksum: null,
          };
          version = (arg & 1) as 0 | 1;
          if (version === 0) (capable as { senderKey: unknown }).senderKey = keyOf();
          const extra: TcpOption[] = [{ kind: 'mss', value: 1400 }];
          if ((arg & 8) !== 0) extra.push({ kind: 'sack-permitted' });
          if ((arg & 16) !== 0) extra.push({ kind: 'window-scale', shift: 7 });
          if ((arg & 32) !== 0)
            extra.push({ kind: 'fast-open', cookie: (arg & 64) !== 0 ? stack.makeFastOpenCookie(host.secret, LOCAL, REMOTE) : new Uint8Array(0) });
          send(flow, 2, (arg & 4) !== 0 ? [] : [capable], (arg & 96) === 96 ? 20 : 0, {}, extra);
          flow.seq = (flow.seq + 1) | 0;
          break;
        }
        case 2:
        case 3: {
          const withData = (arg & 1) !== 0;
          const receiver = (arg & 2) !== 0 && (arg & 4) !== 0 ? { high: 9, low: 9 } : serverKey();
          const option: MptcpOption = {
            subtype: 'capable',
            version,
            flags: 1,
            senderKey: keyOf(),
            receiverKey: receiver,
            dataLength: withData ? 10 : null,
            checksum: null,
          };
          send(flow, 16, (arg & 24) === 24 ? [] : [option], withData ? 10 : 0);
          if (withData) {
            flow.seq = (flow.seq + 10) | 0;
            flow.ssn += 10;
            dataNext += 10;
          }
          break;
        }
        case 4:
        case 5:
        case 6:
        case 7: {
          const change = arg & 3 ? 0 : (arg >>> 2) % 11;
          send(flow, 24, [dss(flow, size, change)], size);
          if ((op & 32) === 0) {
            flow.seq = (flow.seq + size) | 0;
            flow.ssn += size;
            dataNext += size;
          }
          break;
        }
        case 8:
          send(flow, 16, [], size);
          flow.seq = (flow.seq + size) | 0;
          break;
        case 9: {
          const address = (arg & 1) !== 0 ? Uint8Array.of(192, 0, 2, arg) : new Uint8Array(16).fill(arg);
          const port = (arg & 2) !== 0 ? 8000 + arg : null;
          const key = connection()?.local;
          const hmac = key === null || key === undefined || (arg & 4) !== 0 ? new Uint8Array(8) : stack.addAddressHmac(keyOf(), key, arg, address, port ?? 0);
          send(
            flow,
            16,
            [
              {
                subtype: 'add-addr',
                version,
                flags: version === 0 ? (address.length === 4 ? 4 : 6) : arg >>> 7,
                addressId: arg,
                address,
                port,
                hmac: version === 0 || arg > 127 ? null : hmac,
              },
            ],
            0,
          );
          break;
        }
        case 10:
          send(flow, 16, [{ subtype: 'remove-addr', flags: 0, addressIds: [arg, arg >>> 1, 0].slice(0, 1 + (arg & 1)) }], 0);
          break;
        case 11:
          send(flow, 16, [{ subtype: 'prio', flags: arg & 1, addressId: (arg & 2) !== 0 ? arg >>> 2 : null }], 0);
          break;
        case 12:
          send(flow, 16, [{ subtype: 'fail', reserved: 0, dsn: dataAck((arg & 1) !== 0 ? 10 : 0) }], 0);
          break;
        case 13:
          send(flow, (arg & 2) !== 0 ? 4 : 16, [{ subtype: 'fastclose', reserved: 0, receiverKey: (arg & 1) !== 0 ? { high: 1, low: 1 } : serverKey() }], 0);
          break;
        case 14:
          send(flow, 17, [dss(flow, 0, 6)], 0);
          if ((arg & 1) !== 0) flow.seq = (flow.seq + 1) | 0;
          break;
        case 15:
          send(
            flow,
            4 | ((arg & 1) << 4),
            [{ subtype: 'tcprst', flags: arg & 1, reason: arg >>> 4 }],
            0,
            (arg & 2) !== 0 ? { seq: (flow.seq + arg * 100) >>> 0 } : {},
          );
          break;
        case 16:
        case 17:
          send(
            flow,
            16,
            (arg & 1) !== 0
              ? []
              : [{ subtype: 'dss', flags: 3, dataAck: dataAck((arg & 14) === 14 ? 10 : 0), dsn: null, ssn: 0, dataLength: 0, checksum: null }],
            0,
          );
          break;
        case 18:
        case 19:
          advance((arg + 1) ** 2 * 1000);
          break;
        case 20:
          if (own !== null) own.write(payload.subarray(0, size), now);
          drain();
          break;
        case 21:
          if (own !== null) for (let chunk = own.peek(); chunk !== null; chunk = own.peek()) own.consume(chunk.length, now);
          drain();
          break;
        case 22:
          if (own !== null && (arg & 1) !== 0) own.shutdown(now);
          else if (own !== null && (arg & 2) !== 0) own.abort(now);
          drain();
          break;
        case 23: {
          const subflow = own?.subflows[arg % Math.max(1, own.subflows.length)];
          if (own !== null && subflow !== undefined && subflow.established) {
            if ((arg & 1) !== 0) own.setBackup(subflow, (arg & 2) !== 0, now);
            else if ((arg & 2) !== 0) own.dropSubflow(subflow, now);
            else own.announce(1 + (arg >>> 3), Uint8Array.of(192, 0, 2, 7), (arg & 4) !== 0 ? 8080 : null, now);
          }
          drain();
          break;
        }
        case 24:
        case 25: {
          const known = own?.local?.token ?? 1;
          flow.base = flow.seq = Math.imul(arg + 3, 0x01010101);
          flow.ssn = 1;
          flow.joined = true;
          send(flow, 2, [{ subtype: 'join-syn', flags: arg & 1, addressId: arg >>> 4, token: (arg & 14) === 14 ? 12345 : known >>> 0, nonce: flow.nonce }], 0);
          flow.seq = (flow.seq + 1) | 0;
          break;
        }
        case 26:
        case 27: {
          const key = own?.local;
          const hmac =
            key === null || key === undefined || (arg & 7) === 7
              ? new Uint8Array(20)
              : stack.joinHmac(keyOf(), key, flow.nonce, flow.serverNonce, stack.versionOf(version)).slice(0, 20);
          send(flow, 16, (arg & 24) === 24 ? [] : [{ subtype: 'join-ack', reserved: 0, hmac }], 0);
          break;
        }
        case 28:
        case 29:
          if (last !== null) {
            const copy = (last as Uint8Array).slice();
            const place = 20 + (arg % Math.max(1, copy.length - 20));
            copy[place] = copy[place]! ^ (1 << (op >>> 5));
            inject(copy, true);
          }
          break;
        case 30:
          if (last !== null) inject(last, true);
          break;
        default:
          send(flow, arg, [], arg & 3, { seq: (flow.seq + arg) >>> 0 });
      }
      let held = 0;
      for (const one of host.connections.values()) held += one.outOfOrderBytes + one.received.length;
      if (held > MAX_HELD) throw new Error(`${held} bytes held`);
    }
    // Whatever happened: given up by the application, everything is gone after a while.
    for (const one of [...host.connections.values()]) one.abort(now);
    drain();
    advance(600 * SECOND);
    if (!host.idle) throw new Error(`left behind: ${JSON.stringify(host.sizes)}`);
  };
}
