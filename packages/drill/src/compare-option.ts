/** TCP options of the script against values, for packets of the host. What a script does not say is not compared. */
import { addAddressHmac } from '@subflow/stack';
import { ADD_ADDR_FLAG, DSS_FLAG, formatAddress, JOIN_FLAG, RESET_FLAG } from '@subflow/wire';
import type { MptcpOption, TcpOption } from '@subflow/wire';
import { joined, toBytes } from './keys.ts';
import { addressIn, backupIn, base, field, flagsIn, hmacIn, isAuto, plain, positionsIn, rightChecksum, versionIn, wantsChecksum } from './option-context.ts';
import type { MptcpName, OptionContext } from './option-context.ts';
import type { OptionSpec } from './script.ts';
import { has } from './vocabulary.ts';

type Subtype = MptcpOption['subtype'];
type Seen<S extends Subtype> = MptcpOption & { subtype: S };

const SUBTYPES: Readonly<Record<MptcpName, Subtype>> = {
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

/** Where an option that was sent differs from what the script expects; null when it does not. Learns keys on the way. */
export function compareOption(spec: OptionSpec, option: TcpOption, context: OptionContext): string | null {
  const differs = (what: string, expected: unknown, seen: unknown): string | null =>
    expected === seen ? null : `${spec.written}: ${what} is ${String(seen)}, expected ${String(expected)}`;
  switch (spec.name) {
    case 'nop':
    case 'eol':
      return null;
    case 'mss':
      return option.kind === 'mss' ? differs('value', plain(spec, 'value'), option.value) : wrongKind(spec, option);
    case 'wscale':
      return option.kind === 'window-scale' ? differs('shift', plain(spec, 'value'), option.shift) : wrongKind(spec, option);
    case 'sackok':
      return option.kind === 'sack-permitted' ? null : wrongKind(spec, option);
    case 'ts':
      // The value is the host's own clock's, which no script knows.
      if (option.kind !== 'timestamps') return wrongKind(spec, option);
      return isAuto(spec, 'ecr') ? null : differs('ecr', plain(spec, 'ecr'), option.echo);
    case 'sack': {
      if (option.kind !== 'sack') return wrongKind(spec, option);
      const seen = option.blocks.map((block) => block.map((edge) => (edge - context.acknowledged) >>> 0).join(':'));
      return differs('blocks', spec.blocks.map((block) => block.join(':')).join(' '), seen.join(' '));
    }
    case 'fo':
      if (option.kind !== 'fast-open') return wrongKind(spec, option);
      if (spec.cookie === 'any') return option.cookie.length > 0 ? null : `${spec.written}: the host asks for a cookie, expected one`;
      return spec.cookie === null ? null : differs('cookie', hex(spec.cookie), hex(option.cookie));
    default: {
      if (option.kind !== 'mptcp' || option.option.subtype !== SUBTYPES[spec.name]) return wrongKind(spec, option);
      const check = new Check(spec, context);
      const compare = COMPARISONS[option.option.subtype] as ((check: Check, seen: MptcpOption) => void) | undefined;
      compare?.(check, option.option);
      return check.problems.length === 0 ? null : `${spec.written}: ${check.problems.join('; ')}`;
    }
  }
}

/** One option under comparison. */
class Check {
  readonly spec: OptionSpec;
  readonly context: OptionContext;
  readonly problems: string[] = [];

  constructor(spec: OptionSpec, context: OptionContext) {
    this.spec = spec;
    this.context = context;
  }

  number(name: string, auto = 0n): bigint {
    return this.context.symbols.number(field(this.spec, name), auto);
  }

  same(what: string, expected: unknown, seen: unknown): void {
    if (expected !== seen) this.problems.push(`${what} is ${String(seen)}, expected ${String(expected)}`);
  }

  /** A field whose value is compared unless it is left open. */
  value(what: string, name: string, seen: number | bigint | null, bits = 64): void {
    if (!isAuto(this.spec, name)) this.same(what, BigInt.asUintN(bits, this.number(name)), seen === null ? null : BigInt.asUintN(bits, BigInt(seen)));
  }

  backup(seen: number): void {
    this.same('backup', backupIn(this.spec, this.context.symbols), seen & JOIN_FLAG.backup);
  }

  /** What a mapping's checksum must be; `right` is what it should have been. */
  checksum(seen: number | null, right: number): void {
    if (this.spec.words.has('nocs')) this.same('checksum', null, seen);
    else if (wantsChecksum(this.spec)) this.same('checksum', isAuto(this.spec, 'cksum') ? right : Number(this.number('cksum')), seen);
  }
}

const COMPARISONS: { readonly [S in Subtype]?: (check: Check, seen: Seen<S>) => void } = {
  capable: (check, seen) => {
    const { spec, context } = check;
    check.same('version', versionIn(spec), seen.version);
    check.same('flags', flagsIn(spec).toString(16), seen.flags.toString(16));
    compareKeys(check, seen);
    const length = has(spec, 'mpcdatalen') ? plain(spec, 'mpcdatalen') : null;
    check.same('data-level length', length, seen.dataLength);
    const dsn = base(context.sender) + 1n;
    const position = { high: Number(BigInt.asIntN(32, dsn >> 32n)), low: Number(BigInt.asIntN(32, dsn)) };
    check.checksum(seen.checksum, length === null ? 0 : rightChecksum(position, 1, length, context.payload));
  },
  'join-syn': (check, seen) => {
    check.backup(seen.flags);
    check.value('address id', 'address_id', seen.addressId);
    check.value('token', 'token', seen.token, 32);
  },
  'join-synack': (check, seen) => {
    check.backup(seen.flags);
    check.value('address id', 'address_id', seen.addressId);
    const context = { ...check.context, flow: { ...check.context.flow, senderNonce: seen.nonce | 0 } };
    check.same('HMAC', hex(hmacIn(check.spec, context, 8)), hex(seen.hmac));
  },
  'join-ack': (check, seen) => check.same('HMAC', hex(hmacIn(check.spec, check.context, 20)), hex(seen.hmac)),
  dss: (check, seen) => {
    const { spec, context } = check;
    const { ack, dsn } = positionsIn(spec);
    check.same('DATA_ACK', bitsOf(ack), seen.dataAck === null ? null : (seen.flags & DSS_FLAG.dataAck64) !== 0 ? 64 : 32);
    if (ack !== null && seen.dataAck !== null) check.value(ack, ack, joined(seen.dataAck) - base(context.receiver), bitsOf(ack)!);
    check.same('DSN', bitsOf(dsn), seen.dsn === null ? null : (seen.flags & DSS_FLAG.dsn64) !== 0 ? 64 : 32);
    if (dsn !== null && seen.dsn !== null) {
      check.value(dsn, dsn, joined(seen.dsn) - base(context.sender), bitsOf(dsn)!);
      check.value('ssn', 'ssn', seen.ssn, 32);
      check.value('dll', 'dll', seen.dataLength);
      // An infinite mapping has none (RFC 8684 §3.3.1).
      check.checksum(seen.checksum, seen.dataLength === 0 ? 0 : rightChecksum(seen.dsn, seen.ssn, seen.dataLength, context.payload));
    }
    check.same('DATA_FIN', spec.words.has('fin'), (seen.flags & DSS_FLAG.dataFin) !== 0);
  },
  'add-addr': (check, seen) => {
    const { sender, receiver, resolve } = check.context;
    check.same('echo', check.spec.words.has('echo'), seen.version === 1 && (seen.flags & ADD_ADDR_FLAG.echo) !== 0);
    check.value('address id', 'address_id', seen.addressId);
    const address = addressIn(check.spec);
    if (address !== null) check.same('address', formatAddress(resolve(address)), formatAddress(seen.address));
    check.same('port', has(check.spec, 'port') ? Number(check.number('port')) : null, seen.port);
    if (!isAuto(check.spec, 'hmac')) check.same('HMAC', hex(toBytes(check.number('hmac'), 8)), seen.hmac === null ? 'none' : hex(seen.hmac));
    else if (seen.hmac !== null && sender !== null && receiver !== null)
      check.same('HMAC', hex(addAddressHmac(sender, receiver, seen.addressId, seen.address, seen.port ?? 0)), hex(seen.hmac));
  },
  'remove-addr': (check, seen) => {
    const ids = (check.spec.fields.get('address_id') ?? []).map((id) => check.context.symbols.number(id, 0n));
    check.same('address ids', ids.join(','), seen.addressIds.join(','));
  },
  prio: (check, seen) => {
    check.backup(seen.flags);
    check.value('address id', 'address_id', seen.addressId);
  },
  fail: (check, seen) => check.value('dsn8', 'dsn8', joined(seen.dsn) - base(check.context.receiver)),
  fastclose: (check, seen) => {
    const own = check.context.receiver;
    check.same('key', check.number('receiver_key', own === null ? 0n : joined(own)), joined(seen.receiverKey));
  },
  tcprst: (check, seen) => {
    check.same('reason', plain(check.spec, 'value'), seen.reason);
    check.same('transient', check.spec.words.has('transient'), (seen.flags & RESET_FLAG.transient) !== 0);
  },
};

/** A name that has no value yet gets the key's. */
function compareKeys(check: Check, seen: Seen<'capable'>): void {
  const { symbols } = check.context;
  for (const [name, value] of check.spec.assigned) symbols.define(name, value);
  const keys = [seen.senderKey, seen.receiverKey].filter((key) => key !== null);
  const names = check.spec.fields.get('key') ?? [];
  check.same('number of keys', names.length, keys.length);
  names.forEach((expression, i) => {
    const key = keys[i];
    if (key === undefined) return;
    if (expression.kind === 'variable' && symbols.value(expression.name) === undefined) symbols.define(expression.name, joined(key));
    else check.same(`key ${i + 1}`, symbols.number(expression, 0n).toString(16), joined(key).toString(16));
  });
}

function bitsOf(name: string | null): 64 | 32 | null {
  return name === null ? null : name.endsWith('8') ? 64 : 32;
}

function wrongKind(spec: OptionSpec, option: TcpOption): string {
  return `${spec.written} expected, the segment has ${option.kind === 'mptcp' ? option.option.subtype : option.kind}`;
}

function hex(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
