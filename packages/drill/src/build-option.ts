/** TCP options of the script to values, for packets to the host. */
import { addAddressHmac } from '@subflow/stack';
import { ADD_ADDR_FLAG, DSS_FLAG, RESET_FLAG } from '@subflow/wire';
import type { MptcpOption, TcpOption } from '@subflow/wire';
import { halves, joined, toBytes } from './keys.ts';
import { addressIn, backupIn, base, field, flagsIn, hmacIn, isAuto, plain, positionsIn, rightChecksum, versionIn, wantsChecksum } from './option-context.ts';
import type { MptcpName, OptionContext } from './option-context.ts';
import { checkIncoming } from './parse-option.ts';
import type { OptionSpec } from './script.ts';
import { has } from './vocabulary.ts';

/** The option a packet to the host carries. Throws {@link ScriptError}. */
export function buildOption(spec: OptionSpec, context: OptionContext): TcpOption {
  checkIncoming(spec);
  switch (spec.name) {
    case 'nop':
      return { kind: 'nop' };
    case 'eol':
      return { kind: 'end', padding: new Uint8Array(0) };
    case 'mss':
      return { kind: 'mss', value: plain(spec, 'value', 0xffff) };
    case 'wscale':
      return { kind: 'window-scale', shift: plain(spec, 'value', 0xff) };
    case 'sackok':
      return { kind: 'sack-permitted' };
    case 'ts':
      return { kind: 'timestamps', value: plain(spec, 'val'), echo: (isAuto(spec, 'ecr') ? context.timestampEcho : plain(spec, 'ecr')) >>> 0 };
    case 'sack':
      return { kind: 'sack', blocks: spec.blocks.map(([from, to]) => [(from + context.acknowledged) >>> 0, (to + context.acknowledged) >>> 0]) };
    case 'fo':
      return { kind: 'fast-open', cookie: spec.cookie instanceof Uint8Array ? spec.cookie : new Uint8Array(0) };
    default:
      return { kind: 'mptcp', option: buildMptcp(spec, spec.name, context) };
  }
}

function buildMptcp(spec: OptionSpec, name: MptcpName, context: OptionContext): MptcpOption {
  const { symbols } = context;
  const number = (word: string, auto = 0n): bigint => symbols.number(field(spec, word), auto);
  const flags = backupIn(spec, symbols);
  switch (name) {
    case 'mp_capable':
      return buildCapable(spec, context);
    case 'mp_join_syn': {
      const token = Number(number('token') & 0xffffffffn);
      return { subtype: 'join-syn', flags, addressId: Number(number('address_id')), token, nonce: context.flow.senderNonce >>> 0 };
    }
    case 'mp_join_syn_ack':
      return {
        subtype: 'join-synack',
        flags,
        addressId: Number(number('address_id')),
        hmac: hmacIn(spec, context, 8),
        nonce: context.flow.senderNonce >>> 0,
      };
    case 'mp_join_ack':
      return { subtype: 'join-ack', reserved: 0, hmac: hmacIn(spec, context, 20) };
    case 'dss':
      return buildDss(spec, context);
    case 'add_address':
      return buildAddAddress(spec, context);
    case 'remove_address':
      return { subtype: 'remove-addr', flags: 0, addressIds: (spec.fields.get('address_id') ?? []).map((id) => Number(symbols.number(id, 0n))) };
    case 'mp_prio':
      return { subtype: 'prio', flags, addressId: has(spec, 'address_id') ? Number(number('address_id')) : null };
    case 'mp_fail':
      return { subtype: 'fail', reserved: 0, dsn: halves(base(context.receiver) + number('dsn8')) };
    case 'mp_fastclose':
      return { subtype: 'fastclose', reserved: 0, receiverKey: halves(number('receiver_key', context.receiver === null ? 0n : joined(context.receiver))) };
    case 'mp_reset':
      return { subtype: 'tcprst', flags: spec.words.has('transient') ? RESET_FLAG.transient : 0, reason: plain(spec, 'value', 0xff) };
  }
}

function buildCapable(spec: OptionSpec, context: OptionContext): MptcpOption {
  const { symbols } = context;
  for (const [name, value] of spec.assigned) symbols.define(name, value);
  const keys = (spec.fields.get('key') ?? []).map((key) => halves(symbols.number(key, 0n)));
  const dataLength = has(spec, 'mpcdatalen') ? plain(spec, 'mpcdatalen', 0xffff) : null;
  return {
    subtype: 'capable',
    version: versionIn(spec),
    flags: flagsIn(spec),
    senderKey: keys[0] ?? null,
    receiverKey: keys[1] ?? null,
    dataLength,
    checksum: dataLength === null || !wantsChecksum(spec) ? null : checksumOf(spec, context, 1n, 1, dataLength),
  };
}

function buildDss(spec: OptionSpec, context: OptionContext): MptcpOption {
  const number = (word: string, auto = 0n): bigint => context.symbols.number(field(spec, word), auto);
  const { ack, dsn } = positionsIn(spec);
  let flags: number = spec.words.has('fin') ? DSS_FLAG.dataFin : 0;
  if (ack !== null) flags |= DSS_FLAG.dataAck | (ack === 'dack8' ? DSS_FLAG.dataAck64 : 0);
  if (dsn !== null) flags |= DSS_FLAG.mapping | (dsn === 'dsn8' ? DSS_FLAG.dsn64 : 0);
  const position = dsn === null ? 0n : number(dsn);
  const dataLength = Number(number('dll', BigInt(context.payload.length)) & 0xffffn);
  const ssn = Number(number('ssn', 0n) & 0xffffffffn);
  return {
    subtype: 'dss',
    flags,
    dataAck: ack === null ? null : halves(base(context.receiver) + number(ack)),
    dsn: dsn === null ? null : halves(base(context.sender) + position),
    ssn,
    dataLength,
    checksum: dsn === null || !wantsChecksum(spec) ? null : checksumOf(spec, context, position, ssn, dataLength),
  };
}

function buildAddAddress(spec: OptionSpec, context: OptionContext): MptcpOption {
  const { symbols } = context;
  const address = context.resolve(addressIn(spec)!);
  const port = has(spec, 'port') ? Number(symbols.number(field(spec, 'port'), 0n) & 0xffffn) : null;
  const addressId = Number(symbols.number(field(spec, 'address_id'), 0n) & 0xffn);
  const echo = spec.words.has('echo');
  if (symbols.version === 0) return { subtype: 'add-addr', version: 0, flags: address.length === 4 ? 4 : 6, addressId, address, port, hmac: null };
  return { subtype: 'add-addr', version: 1, flags: echo ? ADD_ADDR_FLAG.echo : 0, addressId, address, port, hmac: echo ? null : announcedHmac() };

  function announcedHmac(): Uint8Array {
    if (!isAuto(spec, 'hmac')) return toBytes(symbols.number(field(spec, 'hmac'), 0n), 8);
    const { sender, receiver } = context;
    return sender === null || receiver === null ? new Uint8Array(8) : addAddressHmac(sender, receiver, addressId, address, port ?? 0);
  }
}

function checksumOf(spec: OptionSpec, context: OptionContext, position: bigint, ssn: number, length: number): number {
  if (!isAuto(spec, 'cksum')) return Number(context.symbols.number(field(spec, 'cksum'), 0n) & 0xffffn);
  return rightChecksum(halves(base(context.sender) + position), ssn, length, context.payload);
}
