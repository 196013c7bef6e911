/** Layers of the probe language as packets of a flow. */
import { DSS_FLAG, dssPseudoHeader, finish, FLAG, sum } from '@subflow/wire';
import type { MptcpOption, TcpOption } from '@subflow/wire';
import { ProbeError } from '../errors.ts';
import { mptcp } from '../flow.ts';
import type { Flow, SegmentSpec } from '../flow.ts';
import { high, low, u64 } from '../session.ts';
import { addressOf, asNumber, bytesOf, parseLayers } from './expression.ts';
import type { Layer, Scope, Value } from './expression.ts';

/** A packet of a flow from text. Throws {@link ProbeError} `BAD_PROBE`. */
export function compose(text: string, scope: Scope, flow: Pick<Flow, 'iss' | 'sndNxt'>): SegmentSpec {
  const spec: SegmentSpec & { options: TcpOption[] } = { flags: FLAG.ack, options: [] };
  const layers = parseLayers(text, scope);
  const data = layers.find((one) => one.name === 'DATA');
  if (data !== undefined) spec.payload = bytesOf(data.arguments.get('0') ?? data.arguments.get('hex'), text);
  for (const layer of layers) {
    const reader = new Arguments(layer, text);
    switch (layer.name) {
      case 'IP':
      case 'IPv6': {
        const ttl = reader.number('ttl');
        const dscp = reader.number('dscp');
        const ecn = reader.number('ecn');
        const id = reader.number('id');
        if (ttl !== null) spec.ttl = ttl;
        if (dscp !== null || ecn !== null) spec.trafficClass = ((dscp ?? 0) << 2) | (ecn ?? 0);
        if (id !== null) spec.identification = id;
        break;
      }
      case 'TCP': {
        const flags = reader.raw('flags', 0);
        if (flags !== undefined) spec.flags = flagsOf(flags, text);
        for (const field of ['seq', 'ack', 'window'] as const) {
          const value = reader.number(field);
          if (value !== null) spec[field] = value;
        }
        break;
      }
      case 'DATA':
        reader.raw('hex', 0);
        break;
      default:
        spec.options.push(optionOf(layer, reader, spec.payload ?? new Uint8Array(0), flow, text));
    }
    reader.done();
  }
  return spec;
}

class Arguments {
  private readonly layer: Layer;
  private readonly text: string;
  private readonly used = new Set<string>();

  constructor(layer: Layer, text: string) {
    this.layer = layer;
    this.text = text;
  }

  raw(name: string, position?: number): Value | undefined {
    const key = this.layer.arguments.has(name) ? name : String(position ?? name);
    this.used.add(key);
    return this.layer.arguments.get(key);
  }

  number(name: string, position?: number): number | null {
    const value = this.raw(name, position);
    return value === undefined ? null : Number(asNumber(value, this.text));
  }

  big(name: string, position?: number): bigint | null {
    const value = this.raw(name, position);
    return value === undefined ? null : asNumber(value, this.text);
  }

  /** Throws for arguments that mean nothing to this layer. */
  done(): void {
    const left = [...this.layer.arguments.keys()].find((key) => !this.used.has(key));
    if (left !== undefined) throw new ProbeError('BAD_PROBE', `"${this.text}": ${this.layer.name} has no argument "${left}"`);
  }
}

function flagsOf(value: Value, text: string): number {
  if (typeof value === 'bigint') return Number(value);
  let flags = 0;
  for (const name of String(value).split(/[ .|-]+/)) {
    const bit = FLAG[name.toLowerCase() as keyof typeof FLAG];
    if (bit === undefined) throw new ProbeError('BAD_PROBE', `"${text}": no TCP flag "${name}"; expected ${Object.keys(FLAG).join(', ')}`);
    flags |= bit;
  }
  return flags;
}

function optionOf(layer: Layer, reader: Arguments, payload: Uint8Array, flow: Pick<Flow, 'iss' | 'sndNxt'>, text: string): TcpOption {
  const n = (name: string, otherwise = 0, position?: number): number => reader.number(name, position) ?? otherwise;
  const key = (name: string) => {
    const value = reader.big(name);
    return value === null ? null : u64(value);
  };
  const option = (value: MptcpOption): TcpOption => mptcp(value);
  switch (layer.name) {
    case 'MSS':
      return { kind: 'mss', value: n('value', 1460, 0) };
    case 'WSCALE':
      return { kind: 'window-scale', shift: n('shift', 7, 0) };
    case 'SACKOK':
      return { kind: 'sack-permitted' };
    case 'NOP':
      return { kind: 'nop' };
    case 'TIMESTAMPS':
      return { kind: 'timestamps', value: n('value', 1, 0), echo: n('echo', 0, 1) };
    case 'OPTION':
      return { kind: 'unknown', code: n('kind', 254, 0), data: bytesOf(reader.raw('data', 1) ?? new Uint8Array(0), text) };
    case 'MP_CAPABLE':
      return option({
        subtype: 'capable',
        version: n('version', 1),
        flags: n('flags', 1),
        senderKey: key('senderKey'),
        receiverKey: key('receiverKey'),
        dataLength: reader.number('length'),
        checksum: reader.number('checksum'),
      });
    case 'MP_JOIN': {
      const hmac = reader.raw('hmac');
      const nonce = reader.number('nonce');
      if (hmac !== undefined && nonce === null) return option({ subtype: 'join-ack', reserved: 0, hmac: bytesOf(hmac, text).slice(0, 20) });
      if (hmac !== undefined)
        return option({ subtype: 'join-synack', flags: n('flags'), addressId: n('id'), hmac: bytesOf(hmac, text).slice(0, 8), nonce: nonce! });
      return option({ subtype: 'join-syn', flags: n('flags'), addressId: n('id', 1), token: n('token'), nonce: nonce ?? 1 });
    }
    case 'DSS':
      return option(dssOf(reader, payload, flow));
    case 'ADD_ADDR': {
      const address = addressOf(reader.raw('address', 0), text);
      const hmac = reader.raw('hmac');
      return option({
        subtype: 'add-addr',
        version: 1,
        flags: n('flags'),
        addressId: n('id', 1),
        address,
        port: reader.number('port'),
        hmac: hmac === undefined ? null : bytesOf(hmac, text).slice(-8),
      });
    }
    case 'REMOVE_ADDR':
      return option({ subtype: 'remove-addr', flags: n('flags'), addressIds: [n('id', 1, 0)] });
    case 'MP_PRIO':
      return option({ subtype: 'prio', flags: n('flags', 1, 0), addressId: reader.number('id') });
    case 'MP_FAIL':
      return option({ subtype: 'fail', reserved: 0, dsn: u64(reader.big('dsn', 0) ?? 0n) });
    case 'MP_FASTCLOSE':
      return option({ subtype: 'fastclose', reserved: 0, receiverKey: u64(reader.big('key', 0) ?? 0n) });
    case 'MP_TCPRST':
      return option({ subtype: 'tcprst', flags: n('flags'), reason: n('reason', 0, 0) });
    default:
      throw new ProbeError(
        'BAD_PROBE',
        `"${text}": no layer "${layer.name}"; expected IP, TCP, DATA, MSS, WSCALE, SACKOK, NOP, TIMESTAMPS, OPTION, MP_CAPABLE, MP_JOIN, DSS, ADD_ADDR, REMOVE_ADDR, MP_PRIO, MP_FAIL, MP_FASTCLOSE or MP_TCPRST`,
      );
  }
}

/** Length, subflow sequence number and checksum follow from the packet unless they are given. */
function dssOf(reader: Arguments, payload: Uint8Array, flow: Pick<Flow, 'iss' | 'sndNxt'>): MptcpOption {
  const dataAck = reader.big('ack');
  const dsn = reader.big('dsn', 0);
  const wide = (reader.number('wide') ?? 0) !== 0;
  const ssn = reader.number('ssn') ?? (flow.sndNxt - flow.iss) >>> 0;
  const dataLength = reader.number('length') ?? payload.length;
  const wanted = reader.raw('checksum');
  let checksum: number | null = null;
  if (wanted === 'right' && dsn !== null) checksum = finish(dssPseudoHeader(high(dsn), low(dsn), ssn, dataLength) + sum(payload, 0, payload.length));
  else if (wanted !== undefined) checksum = Number(asNumber(wanted, 'DSS checksum'));
  const fin = (reader.number('fin') ?? 0) !== 0;
  const flags =
    (dataAck === null ? 0 : DSS_FLAG.dataAck | (wide ? DSS_FLAG.dataAck64 : 0)) |
    (dsn === null ? 0 : DSS_FLAG.mapping | (wide ? DSS_FLAG.dsn64 : 0)) |
    (fin ? DSS_FLAG.dataFin : 0);
  return { subtype: 'dss', flags, dataAck: dataAck === null ? null : u64(dataAck), dsn: dsn === null ? null : u64(dsn), ssn, dataLength, checksum };
}
