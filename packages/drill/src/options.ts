/** TCP options of the script to values (for packets in) and against values (for packets out). */
import { ADD_ADDR_FLAG, DSS_FLAG, dssPseudoHeader, finish, formatAddress, JOIN_FLAG, RESET_FLAG, sum } from '@subflow/wire';
import type { MptcpOption, TcpOption } from '@subflow/wire';
import { addAddressHmac } from '@subflow/stack';
import type { KeyMaterial } from '@subflow/stack';
import { halves, joined, toBytes } from './keys.ts';
import type { Symbols } from './keys.ts';
import { ScriptError } from './script.ts';
import type { Expression, OptionSpec } from './script.ts';

/** What is known where an option stands. */
export interface OptionContext {
  symbols: Symbols;
  /** Key of the packet's sender and receiver, as far as known. */
  sender: KeyMaterial | null;
  receiver: KeyMaterial | null;
  payload: Uint8Array;
  flow: { senderNonce: number; receiverNonce: number };
  timestampEcho: number;
  resolve(name: string): Uint8Array;
}

const FLAGS: Readonly<Record<string, number>> = { flag_a: 0x80, flag_b: 0x40, flag_c: 0x20, flag_d: 0x10, flag_e: 8, flag_f: 4, flag_g: 2, flag_h: 1 };

/** The option a packet to the host carries. */
export function buildOption(spec: OptionSpec, context: OptionContext): TcpOption {
  const number = (name: string, auto = 0n): bigint => context.symbols.number(spec.fields.get(name)?.[0], auto, spec.line);
  switch (spec.name.toLowerCase()) {
    case 'nop':
      return { kind: 'nop' };
    case 'eol':
      return { kind: 'end', padding: new Uint8Array(0) };
    case 'mss':
      return { kind: 'mss', value: Number(spec.words[0]) };
    case 'wscale':
      return { kind: 'window-scale', shift: Number(spec.words[0]) };
    case 'sackok':
      return { kind: 'sack-permitted' };
    case 'ts': {
      const at = (word: string): number => Number(spec.words[spec.words.indexOf(word) + 1]);
      return {
        kind: 'timestamps',
        value: at('val') >>> 0,
        echo: spec.words.includes('ecr') && !Number.isNaN(at('ecr')) ? at('ecr') >>> 0 : context.timestampEcho,
      };
    }
    case 'sack':
      return { kind: 'sack', blocks: spec.words.map((word) => word.split(':').map(Number) as [number, number]) };
    case 'fo':
      return { kind: 'fast-open', cookie: spec.words[0] === undefined ? new Uint8Array(0) : hex(spec.words[0]) };
    default:
      return { kind: 'mptcp', option: buildMptcp(spec, context, number) };
  }
}

function buildMptcp(spec: OptionSpec, context: OptionContext, number: (name: string, auto?: bigint) => bigint): MptcpOption {
  const { symbols } = context;
  switch (canonical(spec.name)) {
    case 'mp_capable': {
      for (const [name, value] of spec.assigned) symbols.define(name, value);
      const keys = (spec.fields.get('key') ?? []).map((key) => halves(symbols.number(key, 0n, spec.line)));
      const length = wordAfter(spec, 'mpcdatalen');
      return {
        subtype: 'capable',
        version: versionOf(spec),
        flags: flagsOf(spec),
        senderKey: keys[0] ?? null,
        receiverKey: keys[1] ?? null,
        dataLength: length === null ? null : Number(length),
        checksum: length === null || !wantsChecksum(spec) ? null : checksumOf(spec, context, 1n, 1, Number(length)),
      };
    }
    case 'mp_join_syn':
      return {
        subtype: 'join-syn',
        flags: backupOf(spec),
        addressId: Number(number('address_id')),
        token: Number(number('token') & 0xffffffffn),
        nonce: context.flow.senderNonce >>> 0,
      };
    case 'mp_join_syn_ack':
      return {
        subtype: 'join-synack',
        flags: backupOf(spec),
        addressId: Number(number('address_id')),
        hmac: hmacOf(spec, context, 8),
        nonce: context.flow.senderNonce >>> 0,
      };
    case 'mp_join_ack':
      return { subtype: 'join-ack', reserved: 0, hmac: hmacOf(spec, context, 20) };
    case 'dss': {
      const ackName = spec.fields.has('dack8') ? 'dack8' : spec.fields.has('dack4') ? 'dack4' : null;
      const dsnName = spec.fields.has('dsn8') ? 'dsn8' : spec.fields.has('dsn4') ? 'dsn4' : null;
      const fin = spec.words.includes('fin') || spec.words.includes('FIN');
      let flags = fin ? 0x10 : 0;
      if (ackName !== null) flags |= ackName === 'dack8' ? 3 : 1;
      if (dsnName !== null) flags |= dsnName === 'dsn8' ? 12 : 4;
      const position = dsnName === null ? 0n : number(dsnName);
      const length = Number(number('dll', BigInt(context.payload.length)));
      const ssn = Number(number('ssn', 0n));
      return {
        subtype: 'dss',
        flags,
        dataAck: ackName === null ? null : halves(base(context.receiver) + number(ackName)),
        dsn: dsnName === null ? null : halves(base(context.sender) + position),
        ssn,
        dataLength: length,
        checksum: dsnName === null || !wantsChecksum(spec) ? null : checksumOf(spec, context, position, ssn, length),
      };
    }
    case 'add_address': {
      const address = context.resolve(nameOf(spec.fields.get('addr')?.[0], spec));
      const port = spec.fields.has('port') ? Number(number('port')) : null;
      const id = Number(number('address_id'));
      const echo = spec.words.includes('echo');
      if (symbols.version === 0) return { subtype: 'add-addr', version: 0, flags: address.length === 4 ? 4 : 6, addressId: id, address, port, hmac: null };
      const given = spec.fields.get('hmac')?.[0];
      const right =
        context.sender === null || context.receiver === null ? new Uint8Array(8) : addAddressHmac(context.sender, context.receiver, id, address, port ?? 0);
      const hmac = echo ? null : given === undefined || given.kind === 'auto' ? right : toBytes(symbols.number(given, 0n, spec.line), 8);
      return { subtype: 'add-addr', version: 1, flags: echo ? 1 : 0, addressId: id, address, port, hmac };
    }
    case 'remove_address':
      return { subtype: 'remove-addr', flags: 0, addressIds: (spec.fields.get('address_id') ?? []).map((id) => Number(symbols.number(id, 0n, spec.line))) };
    case 'mp_prio':
      return { subtype: 'prio', flags: backupOf(spec), addressId: spec.fields.has('address_id') ? Number(number('address_id')) : null };
    case 'mp_fail':
      return { subtype: 'fail', reserved: 0, dsn: halves(base(context.receiver) + number('dsn8')) };
    case 'mp_fastclose':
      return { subtype: 'fastclose', reserved: 0, receiverKey: halves(number('receiver_key', context.receiver === null ? 0n : joined(context.receiver))) };
    case 'mp_reset':
      return { subtype: 'tcprst', flags: spec.words.includes('transient') ? 1 : 0, reason: Number(spec.words.find((word) => /^\d+$/.test(word)) ?? 0) };
    default:
      throw new ScriptError('SCRIPT_UNSUPPORTED', spec.line, `TCP option "${spec.name}"`);
  }
}

/** Where an option that was sent differs from what the script expects; null when it does not. Learns keys on the way. */
export function compareOption(spec: OptionSpec, option: TcpOption, context: OptionContext): string | null {
  const name = spec.name.toLowerCase();
  const differs = (what: string, expected: unknown, seen: unknown): string | null =>
    expected === seen ? null : `${spec.name}: ${what} is ${String(seen)}, expected ${String(expected)}`;
  switch (name) {
    case 'mss':
      return option.kind === 'mss' ? differs('value', Number(spec.words[0]), option.value) : wrongKind(spec, option);
    case 'wscale':
      return option.kind === 'window-scale' ? differs('shift', Number(spec.words[0]), option.shift) : wrongKind(spec, option);
    case 'sackok':
      return option.kind === 'sack-permitted' ? null : wrongKind(spec, option);
    case 'ts': {
      if (option.kind !== 'timestamps') return wrongKind(spec, option);
      const echo = spec.words[spec.words.indexOf('ecr') + 1];
      return echo === undefined || !/^\d+$/.test(echo) ? null : differs('ecr', Number(echo), option.echo);
    }
    case 'sack':
      if (option.kind !== 'sack') return wrongKind(spec, option);
      return differs('blocks', spec.words.join(' '), option.blocks.map((block) => block.join(':')).join(' '));
    case 'fo':
      return option.kind === 'fast-open'
        ? spec.words[0] === undefined || spec.words[0] === 'TFO_COOKIE'
          ? null
          : differs('cookie', spec.words[0], unhex(option.cookie))
        : wrongKind(spec, option);
    default:
      return option.kind === 'mptcp' ? compareMptcp(spec, option.option, context) : wrongKind(spec, option);
  }
}

function compareMptcp(spec: OptionSpec, seen: MptcpOption, context: OptionContext): string | null {
  const { symbols } = context;
  const name = canonical(spec.name);
  if (SUBTYPES[name] === undefined) throw new ScriptError('SCRIPT_UNSUPPORTED', spec.line, `TCP option "${spec.name}"`);
  if (seen.subtype !== SUBTYPES[name]) return `${spec.name} expected, the segment has ${seen.subtype}`;
  const problems: string[] = [];
  const same = (what: string, expected: unknown, actual: unknown): void => {
    if (expected !== actual) problems.push(`${what} is ${String(actual)}, expected ${String(expected)}`);
  };
  const given = (field: string): Expression | undefined => spec.fields.get(field)?.[0];
  const number = (field: string, auto = 0n): bigint => symbols.number(given(field), auto, spec.line);
  const isAuto = (field: string): boolean => given(field) === undefined || given(field)!.kind === 'auto';
  switch (seen.subtype) {
    case 'capable': {
      same('version', versionOf(spec), seen.version);
      same('flags', flagsOf(spec).toString(16), seen.flags.toString(16));
      const keys = [seen.senderKey, seen.receiverKey].filter((key) => key !== null);
      const names = spec.fields.get('key') ?? [];
      same('number of keys', names.length, keys.length);
      names.forEach((expression, i) => {
        const key = keys[i];
        if (key === undefined) return;
        if (expression.kind === 'variable' && symbols.value(expression.name) === undefined) symbols.define(expression.name, joined(key));
        else same(`key ${i + 1}`, symbols.number(expression, 0n, spec.line).toString(16), joined(key).toString(16));
      });
      const length = wordAfter(spec, 'mpcdatalen');
      same('data-level length', length === null ? null : Number(length), seen.dataLength);
      break;
    }
    case 'join-syn':
      same('backup', backupOf(spec), seen.flags & JOIN_FLAG.backup);
      if (!isAuto('address_id')) same('address id', number('address_id'), BigInt(seen.addressId));
      if (!isAuto('token')) same('token', number('token') & 0xffffffffn, BigInt(seen.token));
      break;
    case 'join-synack':
      same('backup', backupOf(spec), seen.flags & JOIN_FLAG.backup);
      if (!isAuto('address_id')) same('address id', number('address_id'), BigInt(seen.addressId));
      same('HMAC', unhex(hmacOf(spec, { ...context, flow: { ...context.flow, senderNonce: seen.nonce | 0 } }, 8)), unhex(seen.hmac));
      break;
    case 'join-ack':
      same('HMAC', unhex(hmacOf(spec, context, 20)), unhex(seen.hmac));
      break;
    case 'dss': {
      const ackName = spec.fields.has('dack8') ? 'dack8' : spec.fields.has('dack4') ? 'dack4' : null;
      const dsnName = spec.fields.has('dsn8') ? 'dsn8' : spec.fields.has('dsn4') ? 'dsn4' : null;
      same(
        'DATA_ACK',
        ackName === null ? null : ackName === 'dack8' ? 64 : 32,
        seen.dataAck === null ? null : (seen.flags & DSS_FLAG.dataAck64) !== 0 ? 64 : 32,
      );
      if (ackName !== null && seen.dataAck !== null && !isAuto(ackName))
        same(ackName, relative(ackName, number(ackName)), relative(ackName, joined(seen.dataAck) - base(context.receiver)));
      same('DSN', dsnName === null ? null : dsnName === 'dsn8' ? 64 : 32, seen.dsn === null ? null : (seen.flags & DSS_FLAG.dsn64) !== 0 ? 64 : 32);
      if (dsnName !== null && seen.dsn !== null) {
        same(dsnName, relative(dsnName, number(dsnName)), relative(dsnName, joined(seen.dsn) - base(context.sender)));
        if (!isAuto('ssn')) same('ssn', number('ssn'), BigInt(seen.ssn));
        if (!isAuto('dll')) same('dll', number('dll'), BigInt(seen.dataLength));
        if (spec.words.includes('nocs')) same('checksum', null, seen.checksum);
        else if (wantsChecksum(spec) && isAuto('cksum')) {
          const low = Number(BigInt.asIntN(32, joined(seen.dsn)));
          const high = Number(BigInt.asIntN(32, joined(seen.dsn) >> 32n));
          const right = finish(dssPseudoHeader(high, low, seen.ssn | 0, seen.dataLength) + sum(context.payload, 0, context.payload.length));
          same('checksum', seen.dataLength === 0 ? 0 : right, seen.checksum);
        }
      }
      same('DATA_FIN', spec.words.includes('fin') || spec.words.includes('FIN'), (seen.flags & DSS_FLAG.dataFin) !== 0);
      break;
    }
    case 'add-addr':
      same('echo', spec.words.includes('echo'), seen.version === 1 && (seen.flags & ADD_ADDR_FLAG.echo) !== 0);
      if (!isAuto('address_id')) same('address id', number('address_id'), BigInt(seen.addressId));
      if (given('addr') !== undefined) same('address', formatAddress(context.resolve(nameOf(given('addr'), spec))), formatAddress(seen.address));
      same('port', spec.fields.has('port') ? Number(number('port')) : null, seen.port);
      if (seen.hmac !== null && context.sender !== null && context.receiver !== null)
        same('HMAC', unhex(addAddressHmac(context.sender, context.receiver, seen.addressId, seen.address, seen.port ?? 0)), unhex(seen.hmac));
      break;
    case 'remove-addr':
      same('address ids', (spec.fields.get('address_id') ?? []).map((id) => symbols.number(id, 0n, spec.line)).join(','), seen.addressIds.join(','));
      break;
    case 'prio':
      same('backup', backupOf(spec), seen.flags & JOIN_FLAG.backup);
      break;
    case 'fail':
      same('dsn8', number('dsn8'), joined(seen.dsn) - base(context.receiver));
      break;
    case 'fastclose':
      same('key', number('receiver_key', context.receiver === null ? 0n : joined(context.receiver)), joined(seen.receiverKey));
      break;
    case 'tcprst':
      same('reason', Number(spec.words.find((word) => /^\d+$/.test(word)) ?? 0), seen.reason);
      same('transient', spec.words.includes('transient'), (seen.flags & RESET_FLAG.transient) !== 0);
      break;
    default:
      break;
  }
  return problems.length === 0 ? null : `${spec.name}: ${problems.join('; ')}`;
}

const SUBTYPES: Readonly<Record<string, MptcpOption['subtype']>> = {
  mp_capable: 'capable',
  mp_join_syn: 'join-syn',
  mp_join_syn_ack: 'join-synack',
  mp_join_ack: 'join-ack',
  dss: 'dss',
  add_address: 'add-addr',
  remove_address: 'remove-addr',
  mp_prio: 'prio',
  mp_fail: 'fail',
  mp_fastclose: 'fastclose',
  mp_reset: 'tcprst',
};

/** Scripts spell some names in several ways. */
function canonical(name: string): string {
  const lower = name
    .toLowerCase()
    .replace(/^mpcapable$/, 'mp_capable')
    .replace(/^mpcap$/, 'mp_capable');
  const aliases: Readonly<Record<string, string>> = {
    add_addr: 'add_address',
    add_addr4: 'add_address',
    add_addr6: 'add_address',
    remove_addr: 'remove_address',
    rem_addr: 'remove_address',
    mp_tcprst: 'mp_reset',
    tcprst: 'mp_reset',
    mp_fclose: 'mp_fastclose',
    mp_join: 'mp_join_syn',
  };
  return aliases[lower] ?? lower;
}

function wrongKind(spec: OptionSpec, option: TcpOption): string {
  return `${spec.name} expected, the segment has ${option.kind === 'mptcp' ? option.option.subtype : option.kind}`;
}

function versionOf(spec: OptionSpec): number {
  const word = spec.words.find((one) => /^v\d+$/.test(one));
  return word === undefined ? 1 : Number(word.slice(1));
}

function flagsOf(spec: OptionSpec): number {
  return (spec.fields.get('flags') ?? []).reduce((total, flag) => {
    if (flag.kind === 'number') return total | Number(flag.value);
    const bit = flag.kind === 'variable' ? FLAGS[flag.name.toLowerCase()] : undefined;
    if (bit === undefined) throw new ScriptError('SCRIPT_SYNTAX', spec.line, 'flags[…]: expected flag_a to flag_h');
    return total | bit;
  }, 0);
}

function wordAfter(spec: OptionSpec, word: string): string | null {
  const i = spec.words.indexOf(word);
  return i < 0 ? null : (spec.words[i + 1] ?? null);
}

function wantsChecksum(spec: OptionSpec): boolean {
  return spec.words.includes('cs') || spec.fields.has('cksum') || spec.words.includes('cksum');
}

function checksumOf(spec: OptionSpec, context: OptionContext, position: bigint, ssn: number, length: number): number {
  const given = spec.fields.get('cksum')?.[0];
  if (given !== undefined && given.kind !== 'auto') return Number(context.symbols.number(given, 0n, spec.line));
  const dsn = halves(base(context.sender) + position);
  const covered = Math.min(context.payload.length, length);
  return finish(dssPseudoHeader(dsn.high, dsn.low, ssn | 0, length) + sum(context.payload, 0, covered));
}

function backupOf(spec: OptionSpec): number {
  const field = spec.fields.get('backup')?.[0];
  if (field !== undefined && field.kind === 'number') return Number(field.value) & 1;
  return spec.words.includes('backup') ? 1 : 0;
}

function hmacOf(spec: OptionSpec, context: OptionContext, length: number): Uint8Array {
  const given = spec.fields.get('sender_hmac')?.[0] ?? spec.fields.get('hmac')?.[0];
  if (given !== undefined && given.kind === 'number') return toBytes(given.value, length);
  if (context.sender === null || context.receiver === null)
    throw new ScriptError('SCRIPT_SYNTAX', spec.line, 'the HMAC needs both keys, and MP_CAPABLE has not given them');
  return context.symbols.joinHmac(
    { own: context.sender, other: context.receiver, ownNonce: context.flow.senderNonce, otherNonce: context.flow.receiverNonce },
    length,
  );
}

/** The IDSN as a 64-bit number: positions of the script count from it. */
function base(key: KeyMaterial | null): bigint {
  return key === null ? 0n : joined({ high: key.idsnHigh, low: key.idsnLow });
}

/** Numbers of 32 bits are compared as such. */
function relative(name: string, value: bigint): bigint {
  return BigInt.asUintN(name.endsWith('4') ? 32 : 64, value);
}

function nameOf(expression: Expression | undefined, spec: OptionSpec): string {
  if (expression === undefined) throw new ScriptError('SCRIPT_SYNTAX', spec.line, `${spec.name} needs addr[…]`);
  if (expression.kind === 'variable') return expression.name;
  throw new ScriptError('SCRIPT_SYNTAX', spec.line, `${spec.name}: addr[…] takes a name such as saddr0, or an address`);
}

function hex(text: string): Uint8Array {
  const out = new Uint8Array(text.length >> 1);
  for (let i = 0; i < out.length; i++) out[i] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16);
  return out;
}

function unhex(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
